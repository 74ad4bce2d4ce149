// Bundles one of the pages beside this file.

import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';

/** The page's script and style, as texts. */
export async function clientsPage(name) {
  const { outputFiles } = await build({
    stdin: {
      contents: `import '@xterm/xterm/css/xterm.css';\nimport './${name}.mjs';`,
      resolveDir: fileURLToPath(new URL('.', import.meta.url)),
    },
    outfile: 'page.js',
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    logLevel: 'warning',
  });
  const ending = (end) => outputFiles.find(({ path }) => path.endsWith(end)).text;
  return { script: ending('.js'), style: ending('.css') };
}
