// Bundles the article's page, compiled by Vue's own compiler, with its surroundings.

import { build } from 'esbuild';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { compileScript, parse } from 'vue/compiler-sfc';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

const vue = {
  name: 'vue',
  setup(bundler) {
    bundler.onResolve({ filter: /^@\// }, () => ({ path: here('hooks.mjs') }));
    bundler.onLoad({ filter: /\.vue$/ }, async ({ path }) => {
      const { descriptor, errors } = parse(await readFile(path, 'utf8'), { filename: path });
      if (errors.length) throw errors[0];
      const { content } = compileScript(descriptor, { id: 'terminal', inlineTemplate: true });
      return { contents: content, loader: 'ts' };
    });
  },
};

/** The page's script and style, as texts. */
export async function articlePage() {
  const { outputFiles } = await build({
    entryPoints: [here('surroundings.mjs')],
    outfile: 'page.js',
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    define: {
      'process.env.NODE_ENV': '"production"',
      __VUE_OPTIONS_API__: 'true',
      __VUE_PROD_DEVTOOLS__: 'false',
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
    },
    plugins: [vue],
    logLevel: 'warning',
  });
  const ending = (end) => outputFiles.find(({ path }) => path.endsWith(end)).text;
  return { script: ending('.js'), style: ending('.css') };
}
