import { Client } from "../../../api/typescript/client.js";

// The quantity is a number, and must be there.
await new Client().postOrders({ body: { lines: [{ product_id: "p" }], payment: { token: "tok_ok" } } });
