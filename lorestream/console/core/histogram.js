// Rates and quantiles between two answers of GET /v1/admin/pipeline.

/** How much a counter has risen per second from `before` to `now`; null without two answers, or after a restart. */
export function rate(before, now, seconds) {
  if (before === undefined || now === undefined || !(seconds > 0) || now < before) return null;
  return (now - before) / seconds;
}

/**
 * The duration in seconds below which `share` of the observations between two answers lies, as Prometheus'
 * histogram_quantile estimates it. `buckets`: [[upper bound or null, observations at or below it]]. Null without any.
 */
export function quantile(share, buckets, before) {
  const counts = buckets.map(([, count], index) => count - (before?.[index]?.[1] ?? 0));
  const all = counts.at(-1);
  if (!(all > 0)) return null;
  const wanted = share * all;
  const index = counts.findIndex((count) => count >= wanted);
  const [bound] = buckets[index];
  const lower = index ? buckets[index - 1][0] : 0;
  if (bound === null) return lower;
  const below = index ? counts[index - 1] : 0;
  return lower + ((bound - lower) * (wanted - below)) / (counts[index] - below);
}
