// Evaluates the flags of the standard input with flagd's own library, and prints what it chose.
const { createRequire } = require("node:module");
const { delimiter, join } = require("node:path");
const installed = process.env.PATH.split(delimiter).find((dir) => dir.includes("_npx")); // where npx has put the library
const { FlagdCore } = createRequire(join(installed, "..", "here"))("@openfeature/flagd-core");

const quiet = { error() {}, warn() {}, info() {}, debug() {} };
const answers = JSON.parse(require("node:fs").readFileSync(0)).map(({ flag, context }) => {
  const core = new FlagdCore(undefined, quiet);
  core.setConfigurations(JSON.stringify({ flags: { "the-flag": flag } }));
  const r = core.resolveStringEvaluation("the-flag", "", context, quiet);
  return { Variant: r.variant ?? "", Reason: r.reason, Code: r.errorCode ?? "" };
});
console.log(JSON.stringify(answers));
