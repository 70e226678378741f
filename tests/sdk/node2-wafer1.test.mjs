// wafer-node-sdk with wafer-client-sdk.

import { testPair } from "./pair.mjs";

testPair("node2", "wafer1");
