import { InvalidRequestError } from './errors.js';

/** The error of an option that cannot be sent as it is. */
export function invalid(message: string): InvalidRequestError {
  return new InvalidRequestError(message, { code: 'invalid_request' });
}

/**
 * A request's body, as it is.
 *
 * @throws {@link InvalidRequestError} for NaN and the infinities, of which JSON makes null, and the
 * server takes null for what was left out.
 */
export function sendable<T extends object>(body: T): T {
  for (const [name, value] of Object.entries(body)) {
    if ((typeof value === 'number' && !Number.isFinite(value)) || typeof value === 'bigint') {
      throw invalid(`${name}: ${value} cannot be sent: give a whole number`);
    }
  }
  return body;
}

/**
 * A text that goes into a query, as it is.
 *
 * @throws {@link InvalidRequestError} for what is no text, and for half of a surrogate pair: in a URL it
 * would become another character, and so another key.
 */
export function text(name: string, value: unknown): string {
  if (typeof value !== 'string') throw invalid(`${name} must be a string`);
  if (/\p{Surrogate}/u.test(value)) {
    throw invalid(`${name} has half of a surrogate pair: it must be Unicode text`);
  }
  return value;
}
