// An order through the TypeScript client. It ends with an error unless all goes well.
import assert from "node:assert/strict";
import { Client, ProblemError } from "../../../api/typescript/client.js";

const { SHOP: url, ADMIN_EMAIL: email, ADMIN_PASSWORD: password } = process.env;
const anyone = new Client({ url });
const { access_token: token } = await anyone.postSessions({ body: { email, password } });
const admin = new Client({ url, token });
let etag;
const product = await admin.postProducts(
  { body: { name: "Tide table", price: { amount: 1250, currency: "EUR" } } },
  { onResponse: (response) => (etag = response.headers.get("ETag")) },
);
const changed = await admin.patchProductsId({ id: product.id, ifMatch: etag, body: { name: "Tide tables" } });
assert.equal(changed.name, "Tide tables");
await admin.putStockProductId({ productId: product.id, body: { available: 10 } });

const ada = { name: "Ada", email: "ada@example.com", password: "a countess counts" };
await anyone.postUsers({ body: ada });
const customer = new Client({
  url,
  token: async () => (await anyone.postSessions({ body: { email: ada.email, password: ada.password } })).access_token,
});
const body = { lines: [{ product_id: product.id, quantity: 2 }], payment: { token: "tok_ok" } };
const place = () => customer.postOrders({ prefer: "wait=30", body }, { idempotencyKey: "first" });
let order;
for (let n = 0; order === undefined; n++) {
  try {
    order = await place();
  } catch (problem) {
    // The orders have not heard of the product yet.
    if (n > 500 || !(problem instanceof ProblemError) || problem.status !== 422) throw problem;
  }
}
assert.equal(order.status, "confirmed");
assert.equal(order.total.amount, 2500);
assert.equal((await place()).id, order.id);
assert.deepEqual((await customer.getOrders({ limit: 1 })).items.map(({ id }) => id), [order.id]);
await assert.rejects(customer.postOrdersIdCancellation({ id: order.id }), { name: "ProblemError", status: 409 });
await assert.rejects(anyone.getOrders(), { status: 401 });
assert.equal(await admin.deleteProductsId({ id: product.id }), undefined);
