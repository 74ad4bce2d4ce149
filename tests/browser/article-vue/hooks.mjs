// The article's own modules that its page imports by `@/…` and does not print.

import { ref } from 'vue';

export const getToken = () => 'seed-token'; // @/utils/auth
export default (first) => ({ loading: ref(first) }); // @/hooks/loading
