// From logits to the classes that are shown.

export interface Score {
  readonly index: number;
  readonly probability: number;
}

/** The most probable classes by softmax, best first. */
export function top(logits: Float32Array, count: number): Score[] {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers
    .map((power, index) => ({ index, probability: power / total }))
    .sort((a, b) => b.probability - a.probability || a.index - b.index)
    .slice(0, count);
}

/** The share of a class as text: `97.3 %`; the largest below 100 % is not rounded to it. */
export function percent(probability: number): string {
  const rounded = Math.round(probability * 1000) / 10;
  return `${(rounded === 100 && probability < 1 ? 99.9 : rounded).toFixed(1)} %`;
}
