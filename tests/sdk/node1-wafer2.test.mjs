// qcloud-weapp-server-sdk with wafer2-client-sdk.

import { testPair } from "./pair.mjs";

testPair("node1", "wafer2");
