import { createApiKey } from '@evermind-sh/sdk';

import { shared } from './shared.ts';

/** A licence of a test's own. */
export interface Licence {
  readonly apiKey: string;
  /** The attempts that it was charged with. */
  readonly used: () => Promise<number>;
  readonly revoke: () => Promise<void>;
}

/** Has the operator issue a licence, for `limit` attempts if there is one, and makes an API key. */
export async function licence(name: string, limit?: number): Promise<Licence> {
  const { adminToken, endpoints } = shared();
  const endpoint = endpoints[0] ?? '';
  const ask = async (method: string, path: string, body?: object): Promise<Record<string, unknown>> => {
    const response = await fetch(`${endpoint}/admin/licences${path}`, {
      method,
      headers: { Authorization: `Bearer ${adminToken}`, 'Content-Type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
  };
  const issued = await ask('POST', '', { name, limit, period: 'none' });
  const id = issued['id'] as string;
  const { apiKey } = await createApiKey({ licenceKey: issued['licenceKey'] as string, endpoint: endpoints });
  return {
    apiKey,
    used: async () => (await ask('GET', `/${id}/usage`))['used'] as number,
    revoke: async () => {
      await ask('DELETE', `/${id}`);
    },
  };
}
