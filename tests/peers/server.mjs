// An image endpoint with the official x402 package for express or Hono: node server.mjs express|hono FACILITATOR < JSON
// The JSON on stdin is {network, payTo, price, image: base64, shapes: {name: body}}; the first line of output is the port.
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";

const [kind, facilitator] = process.argv.slice(2);
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { network, payTo, price, image, shapes } = JSON.parse(Buffer.concat(chunks).toString());
const paths = ["/v1/images/generations", "/draw"];
const accepts = { scheme: "exact", network, payTo, price };
const routes = Object.fromEntries(paths.map((path) => [`POST ${path}`, { accepts, description: "an image" }]));
const bytes = Buffer.from(image, "base64");

async function expressServer() {
  const { default: express } = await import("express");
  const { paymentMiddleware, x402ResourceServer } = await import("@x402/express");
  const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitator }));
  const app = express();
  app.use(express.json());
  app.use(paymentMiddleware(routes, server.register(network, new ExactEvmScheme())));
  app.post(paths, (request, response) => {
    const shape = request.body.model.split("/")[1];
    if (shape === "raw") response.type("image/png").send(bytes);
    else response.json(shapes[shape]);
  });
  const listener = app.listen(0, "127.0.0.1", () => console.log(listener.address().port));
}

async function honoServer() {
  const { Hono } = await import("hono");
  const { serve } = await import("@hono/node-server");
  const { paymentMiddleware, x402ResourceServer } = await import("@x402/hono");
  const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitator }));
  const app = new Hono();
  app.use(paymentMiddleware(routes, server.register(network, new ExactEvmScheme())));
  for (const path of paths) {
    app.post(path, async (context) => {
      const shape = (await context.req.json()).model.split("/")[1];
      if (shape === "raw") return context.body(bytes, 200, { "content-type": "image/png" });
      return context.json(shapes[shape]);
    });
  }
  serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => console.log(port));
}

await (kind === "hono" ? honoServer() : expressServer());
