/** What `--help` prints, by command. */
const CONNECTION = `\
  --url URL,…           nodes to talk to, comma-separated; the next is tried when one fails
                        [env: EVERMIND_BASE_URL; default: the cluster of \`evermind dev\` on this machine]`;
const API_KEY = `\
  --api-key KEY         the API key [env: EVERMIND_API_KEY]`;
const JSON_FLAG = `\
  --json                print the server's answer as it is`;
const TAKING = `\
  --lease TIME          how long the lock is held unless it is extended, up to 24h [default: 10s]
  --wait TIME           how long to stand in line at most, up to 10m; 0: not for a lock that is held [default: 5s]
  --retry-attempts N    the same in the words of the API: how many times polling would try again
  --retry-delay TIME    how long polling would wait before each of them
  --retry-jitter TIME   how much longer at random
  --fifo                rely on the order of the line
  --uuid UUID           a name of your own for this acquisition: 1 to 128 visible ASCII characters`;
const EXIT_CODES = `\
Exit codes:
  0    done
  1    any other failure
  2    wrong usage
  3    not held, not any more, or not by this uuid
  69   no node could be reached, there is no leader, or the outcome is not known
  75   not acquired: held by another until the end of the wait, or a limit is reached
  76   run: the lock was lost, and the command was ended
  77   the API key was refused
  126  run: the command cannot be started
  127  run: there is no such command
  and  run: the command's own code, or 128 + the signal that ended it`;
const KEY_EXIT_CODES = `\
Exit codes:
  0    done
  1    any other failure
  2    wrong usage, a mistyped key among it
  3    there is no such API key
  69   no node could be reached, there is no leader, or the outcome is not known
  75   too many requests, or a limit is reached
  77   the licence key was refused`;
const TIMES = 'A TIME is a whole number and ms, s, m or h, as in 1500ms, 30s, 10m.';

export const HELP: Record<string, string> = {
  evermind: `\
Locks that survive the loss of a node: the client side of Evermind.

Usage: evermind COMMAND

Commands:
  keys create     make an API key
  keys delete     delete one
  lock acquire    take a lock, standing in line for it if it is held
  lock extend     move the end of a lease
  lock release    give a lock back
  lock run        run a command only while a lock is held

Options:
  -h, --help      print help, of a command too
  -V, --version   print the version`,
  'evermind keys create': `\
Make an API key and print it, this once.

Usage: evermind keys create [OPTIONS]

Options:
  -l, --licenceKey KEY  the licence key, also --licence-key [env: EVERMIND_LICENCE_KEY]
${CONNECTION}
${JSON_FLAG}

Nothing but the key is on stdout: export EVERMIND_API_KEY=$(evermind keys create)

${KEY_EXIT_CODES}`,
  'evermind keys delete': `\
Delete an API key: every node refuses it from then on. A key that was deleted before stays so.

Usage: evermind keys delete [OPTIONS] API_KEY

API_KEY may be -, which reads it from stdin, as others can see a command line.

Options:
  -l, --licenceKey KEY  the licence key, also --licence-key [env: EVERMIND_LICENCE_KEY]
${CONNECTION}
${JSON_FLAG}

${KEY_EXIT_CODES}`,
  'evermind lock acquire': `\
Take a lock, standing in line for it if it is held.

Usage: evermind lock acquire [OPTIONS] KEY

Options:
${TAKING}
${CONNECTION}
${API_KEY}
${JSON_FLAG}

${TIMES}

${EXIT_CODES}`,
  'evermind lock extend': `\
Move the end of a lease.

Usage: evermind lock extend [OPTIONS] --uuid UUID --by TIME KEY

Options:
  --uuid UUID           the uuid that acquire printed
  --by TIME             how much to add to what is left, as in 10s
${CONNECTION}
${API_KEY}
${JSON_FLAG}

${EXIT_CODES}`,
  'evermind lock release': `\
Give a lock back.

Usage: evermind lock release [OPTIONS] --uuid UUID KEY

Options:
  --uuid UUID           the uuid that acquire printed
${CONNECTION}
${API_KEY}
${JSON_FLAG}

${EXIT_CODES}`,
  'evermind lock run': `\
Run a command only while a lock is held.

The lock is extended as long as the command runs. If it cannot be extended, the command and all that
it started get SIGTERM, then SIGKILL before the lease ends. What the command leaves running when it
ends gets the same and is named, and only when it is gone is the lock released. A process that has a
session of its own by then (a daemon) is named and goes on; one of another user (sudo) is named.

At a terminal and under signals it behaves as \`env COMMAND\`: Ctrl-C, Ctrl-Z, prompts, pipelines.
Every signal that can be caught is passed on, and a command that died of a signal ends this process
by the same. A second process, the watch, ends the command if this one is killed (-9), is stopped, or
hangs. Signals ignored at the start are not known to Node: only nohup is recognised. Outside Linux the
command has no controlling terminal, and Ctrl-Z stops it with its group.

Usage: evermind lock run [OPTIONS] KEY -- COMMAND…

Options:
${TAKING}
  --adopt               take --uuid as it is, to take over what is held under it; otherwise a unique
                        part is added, as a uuid is one holder
  --pass-api-key        hand EVERMIND_API_KEY, EVERMIND_LICENCE_KEY and EVERMIND_ADMIN_TOKEN to the command
${CONNECTION}
${API_KEY}

${TIMES}

The command finds the lock's name in EVERMIND_LOCK_KEY and its token in EVERMIND_FENCING_TOKEN.

${EXIT_CODES}`,
};
