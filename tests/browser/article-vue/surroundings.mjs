// What the article's page takes for granted and does not print: a router, its component library, its
// texts. All of it as small as the page can do with.

import { createApp, h } from 'vue';
import { createRouter, createWebHistory, RouterView } from 'vue-router';
import Page from './terminal.vue';

const box = (tag) => (_, { slots }) => h(tag, slots.default?.());
const select = {
  props: ['modelValue'],
  emits: ['update:modelValue'],
  setup: (props, { emit, slots }) => () =>
    h('select', {
      'aria-label': 'Bash',
      value: props.modelValue,
      onChange: (event) => emit('update:modelValue', event.target.value),
    }, slots.default()),
};

const app = createApp(() => h(RouterView));
app.config.globalProperties.$t = (key) => key;
for (const name of ['Breadcrumb', 'a-card', 'a-row', 'a-col', 'a-space', 'a-tag']) app.component(name, box('div'));
app.component('a-select', select).component('a-option', box('option'));
app.use(createRouter({
  history: createWebHistory(),
  routes: [{ path: '/console/:clusteruuid/terminal', component: Page }],
}));
app.mount('#app');
