/** Numbers for people. */
export function seconds(value: number): string {
  if (value < 0.9995) return `${Math.round(value * 1e3)} ms`;
  return value < 99.95 ? `${value.toFixed(value < 9.995 ? 2 : 1)} s` : `${Math.round(value)} s`;
}

export function dollars(value: number): string {
  if (value === 0) return "$0";
  return value >= 0.01
    ? `$${value.toFixed(2)}`
    : `$${Number(value.toPrecision(2)).toFixed(decimals(value))}`;
}

function decimals(value: number): number {
  return Math.min(12, 1 - Math.floor(Math.log10(value)));
}

/** 134515008 is 135M. */
export function short(value: number): string {
  for (const [unit, name] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (value >= unit * 0.9995) return `${Number((value / unit).toPrecision(3))}${name}`;
  }
  return String(value);
}

export function bytes(value: number): string {
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)} GB` : `${Math.round(value / 1e6)} MB`;
}

export function rate(value: number): string {
  return `${value >= 100 ? Math.round(value) : Number(value.toPrecision(3))} tok/s`;
}
