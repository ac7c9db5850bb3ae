export * from '@evermind-sh/sdk';
