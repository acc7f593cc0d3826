// Says what is wrong with an AsyncAPI document, as the AsyncAPI initiative's own parser sees it.
// Usage: node check.mjs DOCUMENT. Exit code 0: valid. 1: errors, one a line. Prints what the parser understood.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const levels = ["error", "warning", "information", "hint"];
for (const { severity, path, message } of diagnostics) {
  console.error(`${levels[severity]}: ${path.join(".")}: ${message}`);
}
if (!document || diagnostics.some(({ severity }) => severity <= 1)) process.exit(1);
console.log(
  JSON.stringify({
    version: document.version(),
    channels: document.channels().all().length,
    operations: document.operations().all().length,
    messages: document.components().messages().all().length,
  }),
);
