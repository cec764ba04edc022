// Measures screens of the console with Lighthouse, prints their scores, and fails below 95.
import { delimiter, join } from "node:path";

const { SHOP: url, ADMIN_EMAIL: email, ADMIN_PASSWORD: password, CHROMIUM: chromePath } = process.env;
const least = 95;
const categories = ["performance", "accessibility", "best-practices"];
const screens = [
  "sign-in", "sagas", "dead-letters", "dead-letters/mends/new", "events", "events/new?type=orders.placed", "trace", "map",
  "functions", "functions/orders", "configuration?function=orders&all=yes", "documents", "documents/catalog/products", "flags",
  "flags/new-flag",
];

const installed = join(process.env.PATH.split(delimiter).find((dir) => dir.includes("_npx")), ".."); // by npx
const { default: lighthouse } = await import(join(installed, "lighthouse", "core", "index.js"));
const { launch } = await import(join(installed, "chrome-launcher", "dist", "index.js"));

const session = await fetch(`${url}/api/sessions`, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ email, password }),
});
if (!session.ok) throw new Error(`sign in: ${session.status}`);
const { access_token: token } = await session.json();

const chrome = await launch({ chromePath, chromeFlags: ["--headless=new", "--no-sandbox", "--disable-gpu"], logLevel: "error" });
let low = false;
try {
  console.log(`${"screen".padEnd(44)}${categories.map((c) => c.padStart(16)).join("")}  KB`);
  for (const screen of screens) {
    const flags = { port: chrome.port, onlyCategories: categories, output: "json", logLevel: "error" };
    if (screen !== "sign-in") flags.extraHeaders = { Cookie: `ebb-console=${token}` };
    const { lhr } = await lighthouse(`${url}/console/${screen}`, flags);
    const scores = categories.map((c) => Math.round((lhr.categories[c].score ?? 0) * 100));
    const bytes = lhr.audits["total-byte-weight"]?.numericValue ?? 0;
    console.log(`${screen.padEnd(44)}${scores.map((s) => String(s).padStart(16)).join("")}  ${Math.round(bytes / 1000)}`);
    if (!lhr.finalDisplayedUrl.includes("/console/" + screen.split("?")[0])) {
      low = true;
      console.log(`  it leads to ${lhr.finalDisplayedUrl}`);
    }
    categories.forEach((category, i) => {
      if (scores[i] >= least) return;
      low = true;
      for (const { id, weight } of lhr.categories[category].auditRefs) {
        const audit = lhr.audits[id];
        if (weight > 0 && audit.score !== null && audit.score < 0.9) {
          console.log(`  ${category}: ${id}: ${audit.title} ${audit.displayValue ?? ""}`);
        }
      }
    });
  }
} finally {
  chrome.kill();
}
if (low) {
  console.log(`a score is below ${least}`);
  process.exit(1);
}
