// Bundles the page: `node bundle.mjs FROM TO`, run by build.rs after `npm ci`.
//
//   FROM/app.js, operations.js, charts.js ─esbuild─▶ TO/<name>            one file each, minified
//   FROM/app.css, india.json              ────────▶ TO/<name>            minified
//   every file of TO                      ─zlib───▶ TO/<name>.gz, .br    so that nothing is compressed at run time

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const [from, to] = process.argv.slice(2);

await build({
  absWorkingDir: from,
  entryPoints: ['app.js', 'charts.js', 'operations.js', 'app.css'],
  outdir: to,
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['es2022'],
  legalComments: 'none',
  logLevel: 'error',
});
writeFileSync(join(to, 'india.json'), JSON.stringify(JSON.parse(readFileSync(join(from, 'india.json'), 'utf8'))));

for (const name of readdirSync(to)) {
  const bytes = readFileSync(join(to, name));
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  writeFileSync(join(to, `${name}.gz`), gzipSync(bytes, { level: 9 }));
  writeFileSync(join(to, `${name}.br`), brotliCompressSync(bytes, { params }));
}
