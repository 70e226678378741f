// qcloud-weapp-server-sdk with wafer-client-sdk.

import { testPair } from "./pair.mjs";

testPair("node1", "wafer1");
