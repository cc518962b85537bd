// OpenAI's SDK with the local endpoint: node openai.mjs URL KEY PHOTO prints a report as JSON.
import { createReadStream } from "node:fs";
import OpenAI, { toFile } from "openai";

const [url, apiKey, photo] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey, maxRetries: 3 });

const image = await client.images.generate({ model: "google/nano-banana", prompt: "a kite", size: "1024x1024" });
const edit = await client.images.edit({
  model: "gpt-image-1",
  image: await toFile(createReadStream(photo), "photo.png", { type: "image/png" }),
  prompt: "add a hat",
});
const models = await client.models.list();
await client.images.generate({ prompt: "a lynx practice:500-charged", fresh: true });
const refused = await client.images
  .generate({ prompt: "an expensive kite", max_price: "0.001" })
  .then(() => 0)
  .catch((error) => error.status);
const report = {
  generated: image.data[0].url,
  edited: Boolean(edit.data[0].b64_json),
  listed: models.data.some((model) => model.id === "google/nano-banana"),
  refused,
};
console.log(JSON.stringify(report));
