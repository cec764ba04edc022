// Drives the console in a browser. It ends with an error unless all goes well.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";

const { SHOP: url, ORIGIN: origin, ADMIN_EMAIL: email, ADMIN_PASSWORD: password, CHROMIUM: executablePath, SHOTS: shots } = process.env;
const installed = process.env.PATH.split(delimiter).find((dir) => dir.includes("_npx")); // where npx has put the libraries
const require = createRequire(join(installed, "..", "here"));
const { chromium } = require("playwright-core");
const { AxeBuilder } = require("@axe-core/playwright");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  await walk();
} catch (failure) {
  for (const page of browser.contexts().flatMap((c) => c.pages())) {
    console.error(page.url(), (await page.locator("main").innerText()).slice(0, 2000));
  }
  throw failure;
} finally {
  await browser.close();
}

async function call(method, path, token, body, headers = {}) {
  const answer = await fetch(url + path, {
    method, headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }), ...headers },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, body: text ? JSON.parse(text) : undefined };
}

async function until(what, ask) {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    const got = await ask();
    if (got) return got;
    await new Promise((done) => setTimeout(done, 100));
  }
  assert.fail(`not within 20 s: ${what}`);
}

async function signIn(email, password) {
  return (await call("POST", "/api/sessions", "", { email, password })).body.access_token;
}

// order places an order and returns how it has ended.
async function order(customer, product) {
  const placed = await until("the order is taken", async () => {
    const lines = [{ product_id: product, quantity: 1 }];
    const got = await call("POST", "/api/orders", customer, { lines, payment: { token: "tok_ok" } },
      { "Idempotency-Key": String(Math.random()) });
    return got.status === 202 && got.body;
  });
  return until("the order has ended", async () => {
    const { body } = await call("GET", `/api/orders/${placed.id}`, customer);
    return body.status !== "pending" && body;
  });
}

async function walk() {
  const admin = await signIn(email, password);
  const product = (await call("POST", "/api/products", admin,
    { name: "Tide table", price: { amount: 1250, currency: "EUR" } })).body.id;
  await call("PUT", `/api/stock/${product}`, admin, { available: 50 });
  const ada = { name: "Ada", email: "ada@example.com", password: "lovelace! lovelace" };
  await call("POST", "/api/users", "", ada);
  const customer = await signIn(ada.email, ada.password);
  const confirmed = await order(customer, product);
  assert.equal(confirmed.status, "confirmed");

  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  const page = await context.newPage();
  const strange = [];
  watch(page, url);
  const expected = (text) => strange.splice(0, strange.length, ...strange.filter((s) => !s.includes(text)));

  // A customer is refused, and a wrong password.
  await page.goto(`${url}/console/flags`);
  await look("sign-in");
  await fill({ "E-mail address": ada.email, Password: ada.password }, "Sign in");
  await page.getByText("may not use the console").waitFor();
  assert.equal((await context.cookies()).length, 0);
  await fill({ "E-mail address": email, Password: "a wrong one" }, "Sign in");
  await page.getByText("wrong").first().waitFor();
  expected("status of 401");
  expected("status of 403");
  await fill({ "E-mail address": email, Password: password }, "Sign in");
  await page.getByRole("heading", { name: "Flags" }).waitFor(); // where the person wanted to go
  assert.ok((await context.cookies()).every((c) => c.httpOnly && c.sameSite === "Strict"));

  // A saga is stuck, and is ended.
  await go("Sagas");
  await page.getByLabel("Kind").selectOption("order");
  await page.waitForURL(/saga=order/);
  await page.getByLabel("Status").selectOption("completed");
  await page.waitForURL(/status=completed/);
  await page.getByRole("link", { name: confirmed.id }).waitFor();
  await until("the saga is stuck", async () => {
    await page.goto(`${url}/console/sagas?saga=trip&status=open`);
    return page.locator("td .stuck").isVisible();
  });
  await look("sagas");
  await page.getByRole("link", { name: "trip-to-trieste" }).click();
  await page.getByRole("heading", { name: "Saga trip-to-trieste" }).waitFor();
  await page.locator("summary", { hasText: /^End$/ }).click();
  await look("saga");
  await page.locator("details[open]").getByLabel("Why").fill("The hotel has closed");
  await page.locator("details[open]").getByLabel("Yes, end this saga").check();
  await page.getByRole("button", { name: "End the saga" }).click();
  await page.getByText("The saga has ended.").waitFor();
  await page.getByText("ended by an operator: The hotel has closed").waitFor();

  // A dead letter is found by its cause, mended and sent again; bad data is refused and stays in the form.
  await go("Dead letters");
  await until("the dead letters are there", async () => {
    await page.reload();
    return (await page.locator("section.card h2").count()) >= 4;
  });
  await look("dead-letters");
  const ofOrders = page.locator("section.card", { has: page.locator("h2 a", { hasText: /^orders$/ }) });
  const group = ofOrders.filter({ hasText: "$.name is missing" });
  await group.locator("td a").first().click();
  await page.getByRole("heading", { name: "Dead letter", exact: true }).waitFor();
  const data = page.getByLabel("The whole data of the event");
  assert.match(await data.inputValue(), /onerror/);
  await look("dead-letter");
  await data.fill('{"product_id": 1}');
  await page.getByRole("button", { name: "Mend" }).click();
  await page.getByRole("alert").waitFor();
  expected("status of 422");
  assert.equal(await data.inputValue(), '{"product_id": 1}');
  await data.fill(process.env.GOOD);
  await page.getByRole("button", { name: "Mend" }).click();
  await page.getByText("The data is mended.").waitFor();
  await page.getByRole("button", { name: "Replay" }).click();
  await page.getByText("It was sent again.").waitFor();
  await until("the group is gone", async () => {
    await page.reload();
    return (await group.count()) === 0;
  });

  // Many dead letters of one cause are mended by an expression, after a dry run, and sent in growing batches. A viewer
  // sees that, and is refused when they act.
  await go("Dead letters");
  const many = ofOrders.filter({ hasText: "$.price.currency is missing" });
  await many.getByRole("link", { name: "Mend all of this cause" }).click();
  await page.getByRole("heading", { name: "Mend dead letters" }).waitFor();
  const transform = page.getByLabel("What changes in their data");
  const dry = page.getByRole("button", { name: "Dry run" });
  await transform.fill('{"price": {"currency": data.nothing}');
  await dry.click();
  await page.getByRole("alert").filter({ hasText: "Transform, line 1, column" }).waitFor();
  expected("status of 422");
  await transform.fill('{"price": {"currency": "EUR"}, "name": data.name.endsWith("<b>") ? "Chart" : data.name}');
  await dry.click();
  await page.getByText(/12 are selected and 12 get other data/).waitFor();
  await look("mend-dry-run");
  const address = page.url();
  await page.getByLabel("Why").fill("The price has a currency now");
  await page.getByLabel("Yes, mend and send them").check();
  await page.getByRole("button", { name: "Start" }).click();
  await page.getByRole("heading", { name: "Mend", exact: true }).waitFor();
  await page.getByRole("heading", { name: "Stop" }).waitFor();
  await look("mend");
  const mended = page.url();
  const watched = (await call("GET", `/api/archive/mends/${mended.split("/").pop()}`, admin)).body;
  assert.equal(watched.reason, "The price has a currency now");

  const vera = { name: "Vera", email: "vera@example.com", password: "a viewer! a viewer" };
  await call("POST", "/api/users", "", vera);
  const { sub } = JSON.parse(atob((await signIn(vera.email, vera.password)).split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
  assert.equal((await call("PATCH", `/api/users/${sub}`, admin, { roles: ["viewer"], current_password: password })).status, 200);
  const other = await browser.newContext();
  const viewer = await other.newPage();
  await viewer.goto(address);
  await viewer.getByLabel("E-mail address").fill(vera.email);
  await viewer.getByLabel("Password").fill(vera.password);
  await viewer.getByRole("button", { name: "Sign in", exact: true }).click();
  await viewer.getByRole("heading", { name: "What it would do" }).waitFor(); // may try, and not start
  assert.equal(await viewer.getByRole("button", { name: "Start" }).count(), 0);
  for (const screen of ["Sagas", "Dead letters", "Events", "Functions", "Configuration", "Data", "Flags"]) {
    await viewer.getByRole("navigation").getByRole("link", { name: screen, exact: true }).click();
    await viewer.getByRole("heading", { name: screen, exact: true }).waitFor();
    const acts = viewer.locator("main button").filter({ hasNotText: /^(Show|Search)$/ });
    assert.equal(await acts.count(), 0, `${screen} offers a viewer to act`);
  }
  const veraCookies = (await other.cookies()).map((c) => `${c.name}=${c.value}`).join("; ");
  const act = await fetch(`${mended}/stop`, {
    method: "POST", redirect: "manual", body: new URLSearchParams({ reason: "x" }),
    headers: { Cookie: veraCookies, Origin: url, "Sec-Fetch-Site": "same-origin" },
  });
  assert.equal(act.status, 403);
  const direct = await call("POST", "/api/archive/mends", await signIn(vera.email, vera.password), { reason: "x" });
  assert.equal(direct.status, 403);
  await other.close();
  await until("the mend is done", async () => {
    const { body } = await call("GET", `/api/archive/mends/${mended.split("/").pop()}`, admin);
    return body.state === "done" && body.sent === 12;
  });
  await page.locator(".badge.done").waitFor(); // the page looks again by itself

  // An order is seen as a trace.
  await go("Trace");
  await fill({ "A correlation, or the id of an entity": confirmed.id }, "Show");
  for (const type of ["orders.placed", "inventory.reserved", "payments.captured", "orders.confirmed"]) {
    await page.getByRole("link", { name: type }).first().waitFor();
  }
  await look("trace");
  await page.getByRole("link", { name: "orders.placed" }).first().click();
  await page.getByText("Publish one like it").waitFor();
  await look("event");
  await go("Events");
  await fill({ Type: "orders.confirmed" }, "Search");
  await page.locator("td", { hasText: confirmed.id }).first().waitFor();
  assert.equal(await page.locator("tbody tr").count(), 1);
  await page.goto(`${url}/console/events`);
  await look("events");

  // An event is sent again with changes, and followed live: the page shows it, and what it causes, by itself.
  const { body: changed } = await call("GET", "/api/archive/events?type=dev.ebb.catalog.product-changed.v1&order=desc", admin);
  await page.goto(`${url}/console/events/${changed.items.find((i) => i.event.data.name === "Tide table").position}`);
  await page.getByRole("link", { name: "Send it again with changes" }).click();
  const sent = page.getByLabel("The data of the event");
  const again = JSON.parse(await sent.inputValue());
  await sent.fill(JSON.stringify({ ...again, version: "two" }));
  await page.getByLabel("Yes, send it").check();
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByRole("alert").filter({ hasText: "schema" }).waitFor();
  expected("status of 422");
  await sent.fill(JSON.stringify({ ...again, version: again.version + 1, name: "Tide table <i>2</i>" }));
  await look("send");
  await page.getByLabel("Yes, send it").check();
  const streams = [], polls = [];
  page.on("request", (r) => r.url().includes("/console/live/events") && streams.push(r.url()));
  page.on("request", (r) => r.resourceType() === "fetch" && polls.push(r.url()));
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("The event is sent.").waitFor();
  await page.locator("tbody tr", { hasText: "catalog.product-changed" }).waitFor();
  await until("the page follows by server-sent events", () => streams.length > 0);
  assert.deepEqual(polls, []);

  // Where answers are not streamed, the page asks again and again.
  await page.route("**/console/live/events?**", (route) => route.fulfill({ status: 501 }));
  await page.reload();
  await until("the page asks again", () => polls.length > 1);
  await page.unroute("**/console/live/events?**");
  expected("status of 501");
  await page.getByRole("link", { name: "Stop following" }).click();
  await page.getByRole("link", { name: "Follow live" }).waitFor();
  await page.getByRole("link", { name: "Send an event" }).click();
  await fill({ Type: "orders.placed" }, "Show its example");
  await page.getByText("customer_id").first().waitFor();

  // The system, as it is declared.
  await go("Map");
  await look("map");
  await page.locator(".map a", { hasText: "payments" }).click();
  await page.getByText("payments.authorized").waitFor();
  assert.equal(await page.getByText("STRIPE_SECRET_KEY").count(), 1);
  await look("function");
  await go("Functions");
  await look("functions");

  // The settings of a function, and where they come from.
  await page.getByRole("link", { name: "payments" }).first().click();
  await page.getByRole("link", { name: "Their values, and where they come from" }).click();
  await page.getByRole("heading", { name: "Configuration" }).waitFor();
  await page.getByLabel("Which").selectOption("yes");
  await page.waitForURL(/all=yes/);
  const secret = page.locator("tbody tr", { hasText: "STRIPE_SECRET_KEY" });
  await secret.waitFor();
  await look("configuration");
  await page.getByLabel("Function").selectOption("gateway");
  await page.locator("tbody tr", { hasText: "EBB_ACCESS_LOG" }).waitFor();

  // A document is changed. What was written for an older version is refused and stays in the form, beside the newer one.
  await go("Data");
  await look("data");
  await page.getByRole("row", { name: /stock/ }).getByRole("link", { name: "stock" }).click();
  await page.getByRole("link", { name: product }).waitFor();
  await look("collection");
  await page.getByRole("link", { name: product }).click();
  const whole = page.getByLabel("The whole document");
  const before = JSON.parse(await whole.inputValue());
  await call("PUT", `/api/stock/${product}`, admin, { available: 77 });
  await whole.fill(JSON.stringify({ ...before, available: 5 }));
  await page.getByLabel("Why").first().fill("counted");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("alert").filter({ hasText: "has changed since" }).waitFor();
  expected("status of 412");
  assert.equal(JSON.parse(await whole.inputValue()).available, 5);
  await look("document");
  await page.getByText('"available": 77').waitFor();
  await whole.fill(JSON.stringify({ ...before, available: "many" }));
  await page.getByLabel("Why").first().fill("counted");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("alert").filter({ hasText: "does not have the form" }).waitFor();
  expected("status of 422");
  await whole.fill(JSON.stringify({ ...before, available: 50 }));
  await page.getByLabel("Why").first().fill("counted");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The document is saved.").waitFor();
  assert.equal((await call("GET", `/api/stock/${product}`, admin)).body.available, 50);

  // A flag is added, and the shop takes no payments; it is switched off, and the shop takes them again.
  await go("Flags");
  await fill({ "Key of a new flag": "payments-accepted" }, "Add");
  const definition = page.getByLabel("Definition, in flagd's JSON");
  await definition.fill('{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"maybe"}');
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("must be one of the variants").waitFor();
  expected("status of 422");
  await definition.fill('{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"no"}');
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The flag is saved.").waitFor();
  await until("payments are declined", async () => (await order(customer, product)).reason?.includes("not accepted"));
  await look("flag");
  await go("Flags");
  await look("flags");
  await page.getByRole("link", { name: "payments-accepted" }).click();
  await page.locator("summary", { hasText: "Switch off" }).click();
  await page.locator("details[open]").getByLabel("Why").fill("The bank is back");
  await page.locator("details[open]").getByLabel("Yes, switch it off").check();
  await page.getByRole("button", { name: "Switch off" }).click();
  await page.getByText("The flag is off.").waitFor();
  await until("payments are accepted", async () => (await order(customer, product)).status === "confirmed");

  // A request of another site changes nothing; the session ends with a sign-out.
  const cookies = (await context.cookies()).map((c) => `${c.name}=${c.value}`).join("; ");
  const forged = await fetch(`${url}/console/flags/payments-accepted/enable`, {
    method: "POST", redirect: "manual", body: new URLSearchParams({ reason: "x" }),
    headers: { Cookie: cookies, Origin: "https://elsewhere.example", "Sec-Fetch-Site": "cross-site" },
  });
  assert.equal(forged.status, 403);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in", exact: true }).waitFor();
  assert.equal((await context.cookies()).length, 0);
  await page.goto(`${url}/console/sagas`);
  await page.getByRole("button", { name: "Sign in", exact: true }).waitFor();
  await passkeys();
  assert.deepEqual(strange, [], "requests to others, errors, dialogs, or what axe finds");

  // watch reports what the page asks of others, its errors and its dialogs.
  function watch(page, own) {
    page.on("request", (r) => r.url().startsWith(own) || r.url().startsWith("data:") || strange.push(r.url()));
    page.on("pageerror", (e) => strange.push(String(e)));
    page.on("dialog", (d) => strange.push("a dialog: " + d.message()) && d.dismiss());
    page.on("console", (m) => m.type() === "error" && strange.push(m.text()));
  }

  // passkeys adds a passkey to the account of the administrator, signs in with it, and removes it. The device is one of
  // the browser's own, for tests.
  async function passkeys() {
    const page = await (await browser.newContext({ viewport: { width: 1280, height: 860 } })).newPage();
    watch(page, origin);
    const devices = await page.context().newCDPSession(page);
    await devices.send("WebAuthn.enable");
    const { authenticatorId } = await devices.send("WebAuthn.addVirtualAuthenticator", { options: {
      protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
    } });
    await page.goto(`${origin}/console/sagas`);
    await fill({ "E-mail address": email, Password: password }, "Sign in", page);
    await go("Account", page);
    await page.getByText("There is no passkey yet.").waitFor();
    await look("account", page);
    await fill({ Password: "a wrong one" }, "Prove", page);
    await page.getByRole("alert").filter({ hasText: "present password" }).waitFor();
    expected("status of 422");
    await fill({ Password: password }, "Prove", page);
    await fill({ Name: "Laptop" }, "Add a passkey", page);
    await page.getByText("The passkey is added.").waitFor();
    assert.equal((await page.locator("#codes").innerText()).trim().split("\n").length, 10);
    await look("passkey", page);
    await page.getByRole("button", { name: "Sign out" }).click();

    // The password alone does not do any more, a device whose user is another does not, and the passkey alone does.
    await fill({ "E-mail address": email, Password: password }, "Sign in", page);
    await page.getByRole("alert").filter({ hasText: "second factor" }).waitFor();
    expected("status of 401");
    await devices.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: false });
    await page.getByRole("button", { name: "Sign in with a passkey" }).click();
    await page.locator("form[data-passkey] [role=alert]").waitFor();
    await devices.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: true });
    await page.getByRole("button", { name: "Sign in with a passkey" }).click();
    await page.getByRole("heading", { name: "Sagas" }).waitFor();

    await go("Account", page);
    await page.locator("summary", { hasText: "Rename" }).click();
    await fill({ Name: "Old laptop" }, "Save the name", page);
    await page.getByRole("cell", { name: "Old laptop", exact: true }).waitFor();
    await page.getByRole("button", { name: "Use a passkey" }).click();
    await page.getByText("It is you.").waitFor();
    await page.locator("summary", { hasText: "Remove" }).click();
    await page.getByLabel("Yes, remove this passkey").check();
    await page.getByRole("button", { name: "Remove" }).click();
    await page.getByText("The passkey is removed.").waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Sign in with a passkey" }).click();
    await page.getByRole("alert").filter({ hasText: "not accepted" }).waitFor();
    expected("status of 401");
    await fill({ "E-mail address": email, Password: password }, "Sign in", page);
    await page.getByRole("heading", { name: "Sagas" }).waitFor();
  }

  async function go(name, on = page) {
    await on.getByRole("navigation").getByRole("link", { name, exact: true }).click();
    await on.getByRole("heading", { name, exact: true }).first().waitFor();
  }

  async function fill(fields, button, on = page) {
    for (const [label, value] of Object.entries(fields)) await on.getByLabel(label).fill(value);
    await on.getByRole("button", { name: button, exact: true }).click();
  }

  // look has axe check the page and the contrast of both themes, that it fits a phone, and takes pictures.
  async function look(name, on = page) {
    for (const [colorScheme, width] of [["light", 1280], ["dark", 1280], ["light", 390]]) {
      await on.emulateMedia({ colorScheme });
      await on.setViewportSize({ width, height: 860 });
      const axe = new AxeBuilder({ page: on });
      if (colorScheme === "dark") axe.withRules(["color-contrast"]);
      else axe.withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]);
      const { violations } = width < 400 ? { violations: [] } : await axe.analyze();
      for (const v of violations) {
        const where = v.nodes.map((n) => n.html).join(" ").slice(0, 300);
        strange.push(`${name}, ${colorScheme}, ${width} wide: ${v.id}: ${where}`);
      }
      const broad = await on.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (broad > 0) strange.push(`${name} is ${broad} too broad for ${width}`);
      if (shots) await on.screenshot({ path: join(shots, `${name}-${width}-${colorScheme}.png`) });
    }
    await on.setViewportSize({ width: 1280, height: 860 });
  }
}
