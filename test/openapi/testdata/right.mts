import { Client, ProblemError, type Order } from "../../../api/typescript/client.js";

const client = new Client({ url: "http://127.0.0.1:8080", token: async () => undefined });
const body = { lines: [{ product_id: "p", quantity: 2 }], payment: { token: "tok_ok" } };
const order: Order = await client.postOrders({ prefer: "wait=30", body }, { idempotencyKey: "first" });
const status: "pending" | "confirmed" | "cancelled" = order.status;
const removed: void = await client.deleteProductsId({ id: "p" }).catch((e: unknown) => {
  if (e instanceof ProblemError && e.status === 409) return;
  throw e;
});
console.log(status, removed, (await client.getOrders()).items.length);
