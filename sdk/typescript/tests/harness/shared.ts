import type { TestProject } from 'vitest/node';
import { inject } from 'vitest';

import { Evermind, type EvermindOptions } from '@evermind-sh/sdk';

import { type Announcement, Cluster } from './cluster.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    cluster: Announcement;
  }
}

/** One cluster for all tests that do not harm it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const cluster = await Cluster.start();
  project.provide('cluster', cluster.announcement);
  return () => cluster.stop();
}

/** What that cluster announced. */
export function shared(): Announcement {
  return inject('cluster');
}

/** A client of it. */
export function client(options: Partial<EvermindOptions> = {}): Evermind {
  const { apiKey, endpoints } = shared();
  return new Evermind({ apiKey, endpoint: endpoints, ...options });
}
