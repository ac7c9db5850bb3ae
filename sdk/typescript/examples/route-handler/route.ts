// A route handler as Next.js and others have it (`app/api/checkout/[cart]/route.ts`): one checkout of a
// cart at a time, whichever server or function the requests arrive at.
import { type Evermind, LockNotAcquiredError } from 'evermind';

/** Makes the handler; in an application, `export const POST = checkoutRoute(new Evermind(…), checkout)`. */
export function checkoutRoute(
  evermind: Evermind,
  checkout: (cart: string, fencingToken: number, signal: AbortSignal) => Promise<string>,
) {
  return async (request: Request, context: { params: Promise<{ cart: string }> }): Promise<Response> => {
    const { cart } = await context.params;
    try {
      const order = await evermind.withLock(
        // Who asks twice waits two seconds at most, and not at all once the browser is gone.
        { key: `checkout/${cart}`, retryAttempts: 4, signal: request.signal },
        ({ fencingToken, signal }) => checkout(cart, fencingToken, signal),
      );
      return Response.json({ order });
    } catch (error) {
      if (!LockNotAcquiredError.is(error)) throw error;
      const seconds = Math.ceil((error.retryAfter ?? 1_000) / 1_000);
      return Response.json(
        { error: 'this cart is being checked out' },
        { status: 409, headers: { 'Retry-After': String(seconds) } },
      );
    }
  };
}
