// Drives the page /docs in a browser, wide and as a phone. It ends with an error unless all goes well.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";

const { SHOP: url, ADMIN_EMAIL: email, ADMIN_PASSWORD: password, CHROMIUM: executablePath, SHOTS: shots } = process.env;
const installed = process.env.PATH.split(delimiter).find((dir) => dir.includes("_npx")); // where npx has put the library
const { chromium } = createRequire(join(installed, "..", "here"))("playwright-core");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  await drive("wide", { viewport: { width: 1280, height: 900 } });
  await drive("phone", { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });
} finally {
  await browser.close();
}

async function drive(name, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const strange = [];
  page.on("request", (r) => r.url().startsWith(url) || r.url().startsWith("data:") || strange.push(r.url()));
  page.on("pageerror", (e) => strange.push(String(e)));
  page.on("console", (m) => m.type() === "error" && strange.push(m.text()));
  await page.goto(`${url}/docs`);
  await page.getByRole("heading", { name: /^Ebb API/ }).waitFor();
  await shoot("first");

  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password", { exact: true }).fill("a wrong one");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("wrong").first().waitFor();
  strange.splice(0, strange.length, ...strange.filter((text) => !text.includes("status of 401")));
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText(`Signed in as ${email}`).waitFor();

  await page.getByLabel("Find an operation").fill("/api/products");
  const operation = page.locator("#post-products");
  await operation.locator("summary").click();
  await operation.getByText("Idempotency-Key").first().waitFor();
  await operation.getByLabel("Body").fill(JSON.stringify({ name: name, price: { amount: 1250, currency: "EUR" } }));
  await operation.getByRole("button", { name: "Send" }).click();
  await operation.getByText("201 Created").waitFor();
  const curl = await operation.locator(".curl").textContent();
  assert.match(curl, /^curl -i -X POST '.*\/api\/products' .*"Authorization: Bearer \$TOKEN"/);
  await operation.getByRole("button", { name: "Send" }).scrollIntoViewIfNeeded();
  await shoot("sent");

  const { wide, screen } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, screen: innerWidth }));
  assert.ok(wide <= screen, `the page is ${wide} wide on a screen of ${screen}`);
  await page.evaluate(() => scrollTo(0, 0));
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  assert.deepEqual(strange, [], "requests to others, or errors");
  await context.close();

  async function shoot(what) {
    if (shots) await page.screenshot({ path: join(shots, `${name}-${what}.png`) });
  }
}
