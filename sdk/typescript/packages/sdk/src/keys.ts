import type { ApiKeyResponse, CallOptions } from './contract.js';
import { type EvermindError, OutcomeUnknownError, UnavailableError } from './errors.js';
import { type Fetch, wasNeverSent } from './exchange.js';
import { Transport } from './transport.js';

/** Under which licence, and where. */
export interface ApiKeyOptions extends CallOptions {
  /** As the operator of the cluster issued it. */
  readonly licenceKey: string;
  /** As in {@link EvermindOptions}. */
  readonly endpoint?: string | readonly string[] | undefined;
  /** As in {@link EvermindOptions}. */
  readonly fetch?: Fetch | undefined;
}

/**
 * Makes an API key. The server does not store the secret, so this is not repeated once a request may
 * have arrived.
 *
 * @throws {@link OutcomeUnknownError} if no answer came, or one of 5xx that does not say that nothing
 * was done: a key may have been made that nobody knows.
 */
export async function createApiKey({
  licenceKey,
  endpoint,
  fetch,
  signal,
}: ApiKeyOptions): Promise<ApiKeyResponse> {
  const transport = new Transport(endpoint, {}, fetch);
  const call = { method: 'POST', path: '/api-key', body: { licenceKey }, once: true, signal } as const;
  const reply = await transport.call(call).catch((error: unknown) => {
    if (!UnavailableError.is(error) || wasNeverSent(error)) throw error;
    throw unknown(error);
  });
  if (reply.error) {
    const { status = 0, code } = reply.error;
    throw status >= 500 && code !== 'no_leader' ? unknown(reply.error) : reply.error;
  }
  return reply.body as ApiKeyResponse;
}

function unknown(cause: EvermindError): OutcomeUnknownError {
  const message = `an API key may have been made, and may not: ${cause.message}`;
  return new OutcomeUnknownError(message, { code: 'outcome_unknown', cause });
}

/** Deletes an API key of this licence. Where it is not there, the error's code is `api_key_not_found`. */
export async function deleteApiKey(options: ApiKeyOptions & { readonly apiKey: string }): Promise<void> {
  const { licenceKey, apiKey, endpoint, fetch, signal } = options;
  const transport = new Transport(endpoint, {}, fetch);
  const reply = await transport.call({
    method: 'DELETE',
    path: '/api-key',
    body: { licenceKey, apiKey },
    signal,
  });
  if (reply.error) throw reply.error;
}
