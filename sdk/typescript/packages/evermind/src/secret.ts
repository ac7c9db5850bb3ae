import { crc32 } from 'node:zlib';

/** Which secret: its prefix, and how people call it. */
const KINDS = {
  apiKey: { prefix: 'evk_', name: 'an API key', maker: 'an API key is what `evermind keys create` printed' },
  licenceKey: { prefix: 'evl_', name: 'a licence key', maker: 'a licence key is what the operator gave you' },
} as const;

/** Which secret. */
export type SecretKind = keyof typeof KINDS;

/** Base32 digits (RFC 4648, lower case) of 32 random bytes and their CRC-32. */
const DIGITS = 58;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/**
 * Why a text that has the look of such a key cannot be one, and what would be; undefined if it may be:
 * an operator may have chosen an API key of another make. Tells a slip of the finger before anybody is
 * asked.
 */
export function fault(kind: SecretKind, text: string): { message: string; hint: string } | undefined {
  const { prefix, name, maker } = KINDS[kind];
  const hint = `${maker}: ${prefix} and ${DIGITS} more characters`;
  const other = kind === 'apiKey' ? 'licenceKey' : 'apiKey';
  if (isSound(other, text)) return { message: `this is ${KINDS[other].name}, where ${name} is wanted`, hint };
  const looksLikeOne = text.startsWith(prefix) && text.length === prefix.length + DIGITS;
  if (!looksLikeOne || isSound(kind, text)) return undefined;
  const what = name.replace(/^an? /, 'the ');
  return { message: `${what} is mistyped: its last characters do not fit the others; copy it again`, hint };
}

/** Whether the check fits; it is taken over the prefix too. */
function isSound(kind: SecretKind, text: string): boolean {
  const { prefix } = KINDS[kind];
  if (!text.startsWith(prefix) || text.length !== prefix.length + DIGITS) return false;
  const bytes = decode(text.slice(prefix.length));
  if (bytes === undefined) return false;
  const check = crc32(Buffer.concat([Buffer.from(prefix), bytes.subarray(0, -4)]));
  return bytes.readUInt32BE(bytes.length - 4) === check;
}

function decode(digits: string): Buffer | undefined {
  const bytes: number[] = [];
  let bits = 0;
  let held = 0;
  for (const digit of digits) {
    const value = ALPHABET.indexOf(digit);
    if (value < 0) return undefined;
    held = (held << 5) | value;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push(held >> bits);
      held &= (1 << bits) - 1;
    }
  }
  // What does not fill a byte says nothing, and must say so.
  return held === 0 ? Buffer.from(bytes) : undefined;
}
