// The published SDK's view of the wallets here: prints its address, and the total of its cost log.
import { getCostSummary, getOrCreateWallet } from "@blockrun/llm";

const wallet = getOrCreateWallet();
console.log(JSON.stringify({ address: wallet.address, isNew: wallet.isNew ?? false, total: getCostSummary().totalUsd }));
