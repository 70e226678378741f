// wafer-node-sdk with wafer2-client-sdk.

import { testPair } from "./pair.mjs";

testPair("node2", "wafer2");
