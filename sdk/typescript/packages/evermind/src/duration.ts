/** Lengths of time as people write them. */
const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/**
 * Reads `1500ms`, `30s`, `10m`, `24h`, and `0`, in ms. A bare number is refused: the API counts ms and
 * people mean seconds, and a lease a thousand times too short looks granted.
 */
export function parse(text: string): number {
  const [, digits = '', unit = ''] = /^(\d*)(.*)$/s.exec(text) ?? [];
  if (text === '0') return 0;
  if (digits !== '' && unit === '') {
    throw new RangeError(`a time needs its unit: ${text}s, or ${text}ms`);
  }
  const unitMs = UNITS[unit];
  if (unitMs === undefined || (digits === '' && unit !== '')) {
    throw new RangeError('a time is a whole number and ms, s, m or h, as in 1500ms, 30s, 10m');
  }
  if (digits === '') throw new RangeError('a time starts with a whole number, as in 30s');
  const ms = Number(digits) * unitMs;
  if (!Number.isSafeInteger(ms)) throw new RangeError('this time is too long');
  return ms;
}

/** For people: `850ms`, `12.3s`, `2m05s`, `1h00m`. */
export function show(ms: number): string {
  const whole = (value: number) => Math.floor(value);
  const two = (value: number) => String(whole(value)).padStart(2, '0');
  if (ms < 1_000) return `${ms}ms`;
  if (ms < 60_000) return `${whole(ms / 1_000)}.${whole((ms % 1_000) / 100)}s`;
  if (ms < 3_600_000) return `${whole(ms / 60_000)}m${two((ms % 60_000) / 1_000)}s`;
  return `${whole(ms / 3_600_000)}h${two((ms % 3_600_000) / 60_000)}m`;
}
