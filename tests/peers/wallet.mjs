// The wallet as the published SDK finds it: prints its address, and the total of the cost log.
import { getCostSummary, getOrCreateWallet } from "@blockrun/llm";

const wallet = getOrCreateWallet();
console.log(JSON.stringify({ address: wallet.address, isNew: wallet.isNew ?? false, total: getCostSummary().totalUsd }));
