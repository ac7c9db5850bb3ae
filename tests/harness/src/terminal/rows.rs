//! The rows. `$RUN` is the prefix; `say` prints what is compared.

use super::Play::{Script, Terminal};
use super::Row;
use super::Step::{Elsewhere, HangUp, Key, Resize, See, State, Type};

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_Z: u8 = 0x1a;
const CTRL_BACKSLASH: u8 = 0x1c;

const fn terminal(name: &'static str, steps: &'static [super::Step]) -> Row {
    Row {
        name,
        play: Terminal(steps),
    }
}

const fn script(name: &'static str, text: &'static str) -> Row {
    Row {
        name,
        play: Script(text),
    }
}

pub(super) const ROWS: &[Row] = &[
    terminal(
        "Ctrl-C at the prompt",
        &[
            Type("$RUN sh -c \"$SLEEPER\"; say rc=$?"),
            State('S'),
            Key(CTRL_C),
            Type("say rc=$?"),
            Type("say back"),
            See("back"),
            State('-'),
        ],
    ),
    terminal(
        "Ctrl-C in a script: its next step does not run",
        &[
            Type("printf '. ./lib.sh\n$RUN sh -c \"$SLEEPER\"\nsay next step\n' >deploy"),
            Type("bash ./deploy"),
            State('S'),
            Key(CTRL_C),
            Type("say rc=$?"),
            See("rc=130"),
        ],
    ),
    terminal(
        "Ctrl-C in a loop at the prompt: no next turn",
        &[
            Type("for i in 1 2 3; do say turn $i; $RUN sh -c \"$SLEEPER\"; done"),
            State('S'),
            Key(CTRL_C),
            Type("say rc=$?"),
            See("rc=130"),
        ],
    ),
    terminal(
        "Ctrl-C in a list: what follows && does not run",
        &[
            Type("$RUN sh -c \"$SLEEPER\" && say next"),
            State('S'),
            Key(CTRL_C),
            Type("say rc=$?"),
            See("rc=130"),
        ],
    ),
    terminal(
        "Ctrl-C that the command handles: the script goes on",
        &[
            Type("printf '. ./lib.sh\n$RUN bash ./sub; say next step $?\n' >deploy"),
            Type(
                "printf '. ./lib.sh\ntrap \"say trap; exit 5\" INT; echo $$ >pid; while :; do sleep 0.05; done\n' >sub",
            ),
            Type("bash ./deploy"),
            State('S'),
            Key(CTRL_C),
            Type("say back"),
            See("back"),
        ],
    ),
    terminal(
        "Ctrl-C comes once",
        &[
            Type(
                "printf '. ./lib.sh\nn=0; trap \"n=\\$((n+1))\" INT; echo $$ >pid; i=0; while [ $i -lt 20 ]; do sleep 0.05; i=$((i+1)); done; say n=$n\n' >sub",
            ),
            Type("$RUN bash ./sub"),
            State('S'),
            Key(CTRL_C),
            See("n=1"),
            Type("say rc=$?"),
            See("rc=0"),
        ],
    ),
    terminal(
        "Ctrl-C that the command ignores",
        &[
            Type(
                "$RUN sh -c 'trap \"\" INT; . ./lib.sh; echo $$ >pid; ready go; say on; exit 3'; say rc=$?",
            ),
            State('S'),
            Key(CTRL_C),
            Elsewhere("echo 1 >go"),
            See("on"),
            See("rc=3"),
        ],
    ),
    terminal(
        "Ctrl-C twice, the second ends it",
        &[
            Type(
                "printf '. ./lib.sh\ntrap \"say first; trap - INT\" INT; echo $$ >pid; while :; do sleep 0.05; done\n' >sub",
            ),
            Type("$RUN bash ./sub"),
            State('S'),
            Key(CTRL_C),
            See("first"),
            Key(CTRL_C),
            State('-'),
            Type("say rc=$?"),
            See("rc=130"),
        ],
    ),
    terminal(
        "Ctrl-\\",
        &[
            Type("ulimit -c 0; $RUN sh -c \"$SLEEPER\"; say rc=$?"),
            State('S'),
            Key(CTRL_BACKSLASH),
            See("rc=131"),
        ],
    ),
    terminal(
        "Ctrl-Z, then fg",
        &[
            Type("$RUN sh -c \"$SLEEPER\"; say rc=$?"),
            State('S'),
            Key(CTRL_Z),
            State('T'),
            See("rc=148"),
            Type("fg; say rc=$?"),
            State('S'),
            Key(CTRL_C),
            Type("say rc=$?"),
            See("rc=130"),
        ],
    ),
    terminal(
        "Ctrl-Z, then bg",
        &[
            Type("$RUN sh -c 'echo $$ >pid; . ./lib.sh; ready go; exit 6'"),
            State('S'),
            Key(CTRL_Z),
            State('T'),
            Type("say back"),
            See("back"),
            Type("bg; wait %1; say rc=$?"),
            State('S'),
            Elsewhere("echo 1 >go"),
            See("rc=6"),
        ],
    ),
    terminal(
        "Ctrl-Z in a script stops the script",
        &[
            Type("printf '. ./lib.sh\n$RUN sh -c \"$SLEEPER\"\nsay next step\n' >deploy"),
            Type("bash ./deploy"),
            State('S'),
            Key(CTRL_Z),
            State('T'),
            Type("say rc=$?"),
            See("rc=148"),
            Type("fg"),
            State('S'),
            Key(CTRL_C),
            Type("say rc=$?"),
            See("rc=130"),
        ],
    ),
    terminal(
        "Ctrl-Z in a pipeline",
        &[
            Type("$RUN sh -c \"$SLEEPER\" | cat"),
            State('S'),
            Key(CTRL_Z),
            State('T'),
            Type("say rc=$?"),
            See("rc=148"),
            Type("kill -KILL %1; say back"),
            See("back"),
        ],
    ),
    terminal(
        "Ctrl-Z without stdin",
        &[
            Type("$RUN sh -c \"$SLEEPER\" </dev/null"),
            State('S'),
            Key(CTRL_Z),
            State('T'),
            Type("say rc=$?"),
            See("rc=148"),
        ],
    ),
    terminal(
        "Ctrl-Z that the command ignores",
        &[
            Type(
                "$RUN sh -c 'trap \"\" TSTP; . ./lib.sh; echo $$ >pid; ready go; say on; exit 3'; say rc=$?",
            ),
            State('S'),
            Key(CTRL_Z),
            Elsewhere("echo 1 >go"),
            See("on"),
            See("rc=3"),
        ],
    ),
    terminal(
        "Ctrl-Z that the command handles first",
        &[
            Type(
                "printf '. ./lib.sh\nexec 3<>never; trap \"say saves; kill -STOP $$\" TSTP; trap \"say goes on; exit 4\" CONT; echo $$ >pid; while :; do read -t 0.05 -u 3; done\n' >sub",
            ),
            Type("mkfifo never; $RUN bash ./sub; say rc=$?"),
            State('S'),
            Key(CTRL_Z),
            State('T'),
            See("saves"),
            See("rc=147"),
            Type("fg; say rc=$?"),
            See("goes on"),
            See("rc=4"),
        ],
    ),
    terminal(
        "Ctrl-Z, then kill %1",
        &[
            Type("$RUN sh -c \"$SLEEPER\""),
            State('S'),
            Key(CTRL_Z),
            State('T'),
            Type("kill %1"),
            State('-'),
            Type("say back"),
            See("back"),
        ],
    ),
    terminal(
        "Ctrl-Z where nothing could continue it",
        &[
            Type("exec $RUN sh -c 'echo $$ >pid; . ./lib.sh; ready go; say on; sleep 1'"),
            State('S'),
            Key(CTRL_Z),
            Elsewhere("echo 1 >go"),
            See("on"),
        ],
    ),
    terminal(
        "the command stops itself",
        &[
            Type("$RUN sh -c 'echo $$ >pid; kill -STOP $$; exit 4'; say rc=$?"),
            State('T'),
            See("rc=147"),
            Type("fg; say rc=$?"),
            See("rc=4"),
        ],
    ),
    terminal(
        "kill -STOP and -CONT from elsewhere",
        &[
            Type(
                "$RUN sh -c 'echo $$ >pid; . ./lib.sh; ready go; exit 4' & jobs -p >run.pid; wait; say rc=$?",
            ),
            State('S'),
            Elsewhere("ready run.pid; kill -TSTP $(cat run.pid)"),
            State('T'),
            Elsewhere("kill -CONT $(cat run.pid)"),
            State('S'),
            Elsewhere("echo 1 >go"),
        ],
    ),
    terminal(
        "a prompt on /dev/tty while stdin is a pipe",
        &[
            Type(
                "echo data | $RUN sh -c '. ./lib.sh; cat >/dev/null; say password; read a </dev/tty; say got $a'; say rc=$?",
            ),
            See("password"),
            Type("secret"),
            See("got secret"),
            See("rc=0"),
        ],
    ),
    terminal(
        "a line from the terminal's stdin",
        &[
            Type("$RUN sh -c '. ./lib.sh; say asks; read a; say got $a'; say rc=$?"),
            See("asks"),
            Type("answer"),
            See("got answer"),
            See("rc=0"),
        ],
    ),
    terminal(
        "Ctrl-D is the end of input",
        &[
            Type("$RUN sh -c '. ./lib.sh; say asks; cat; exit 5'; say rc=$?"),
            See("asks"),
            Key(CTRL_D),
            See("rc=5"),
        ],
    ),
    terminal(
        "in the background it is stopped at the terminal's stdin, fg goes on",
        &[
            Type("$RUN sh -c 'echo $$ >pid; . ./lib.sh; read a; say got $a; exit 5' &"),
            State('T'),
            Type("stopped; fg; say rc=$?"),
            State('S'),
            Type("answer"),
            See("got answer"),
            See("rc=5"),
        ],
    ),
    terminal(
        "the reader of a pipeline has the terminal",
        &[
            Type(
                "$RUN sh -c 'sleep 0.3; echo data' | sh -c '. ./lib.sh; cat >/dev/null; say asks; read a </dev/tty; say got $a'; say rc=$?",
            ),
            See("asks"),
            Type("q"),
            See("got q"),
            See("rc=0"),
        ],
    ),
    terminal(
        "stty tostop: a background write stops it, fg goes on",
        &[
            Type("stty tostop; $RUN sh -c 'echo $$ >pid; . ./lib.sh; say writes; exit 5' &"),
            State('T'),
            Type("stopped; stty -tostop; fg; say rc=$?"),
            See("writes"),
            See("rc=5"),
        ],
    ),
    terminal(
        "a change of the window's size comes once",
        &[
            Type(
                "printf '. ./lib.sh\nn=0; trap \"n=\\$((n+1))\" WINCH; echo $$ >pid; i=0; while [ $i -lt 20 ]; do sleep 0.05; i=$((i+1)); done; say n=$n\n' >sub",
            ),
            Type("$RUN bash ./sub; say rc=$?"),
            State('S'),
            Resize,
            See("rc=0"),
        ],
    ),
    terminal(
        "the terminal goes away: the command ends",
        &[
            Type("$RUN sh -c \"$SLEEPER\""),
            State('S'),
            HangUp,
            State('-'),
        ],
    ),
    terminal(
        "nohup: the terminal goes away, the command lives",
        &[
            Type("nohup $RUN sh -c \"$SLEEPER\" >/dev/null 2>&1 </dev/null &"),
            State('S'),
            HangUp,
            State('S'),
        ],
    ),
    terminal(
        "an interactive shell with jobs of its own",
        &[
            Type("$RUN bash --norc --noprofile --noediting -i; say rc=$?"),
            Type(". ./lib.sh; say inside"),
            See("inside"),
            Type("sh -c \"$SLEEPER\""),
            State('S'),
            Key(CTRL_Z),
            State('T'),
            Type("say inner=$?"),
            See("inner=148"),
            Type("kill -KILL %1; exit 3"),
            Type("exit 3"),
            See("rc=3"),
        ],
    ),
    terminal(
        "kill %1 comes once",
        &[
            Type(
                "printf '. ./lib.sh\nn=0; trap \"n=\\$((n+1))\" TERM; echo $$ >pid; i=0; while [ $i -lt 20 ]; do sleep 0.05; i=$((i+1)); done; say n=$n\n' >sub",
            ),
            Type("$RUN bash ./sub &"),
            State('S'),
            Type("kill %1; wait %1; wait %1; say back"),
            See("back"),
        ],
    ),
    terminal(
        "group, session and terminal are the caller's",
        &[
            Type(
                "sh -c 'echo \"$(ps -o sid=,tty= $$)\" >mine; ps -o pgid= $$ >group; echo $$ >caller; . ./lib.sh; $RUN sh -c \"ps -o sid=,tty= \\$\\$ >its; ps -o pgid= \\$\\$ >its-group\"; cmp mine its && say same; cmp group its-group && say same group; exit 0'; say rc=$?",
            ),
            See("rc=0"),
        ],
    ),
    script(
        "SIGHUP ends it",
        "start $RUN sh -c \"$SLEEPER\"; ready pid; kill -HUP $run; wait $run; say rc=$?; fate $(cat pid)",
    ),
    script(
        "SIGINT ends it",
        "start $RUN sh -c \"$SLEEPER\"; ready pid; kill -INT $run; wait $run; say rc=$?; fate $(cat pid)",
    ),
    script(
        "SIGQUIT ends it",
        "ulimit -c 0; start $RUN sh -c \"$SLEEPER\"; ready pid; kill -QUIT $run; wait $run; say rc=$?; fate $(cat pid)",
    ),
    script(
        "SIGTERM ends it",
        "start $RUN sh -c \"$SLEEPER\"; ready pid; kill -TERM $run; wait $run; say rc=$?; fate $(cat pid)",
    ),
    script(
        "SIGUSR1 and SIGUSR2 end it",
        "for s in USR1 USR2; do rm -f pid; start $RUN sh -c \"$SLEEPER\"; ready pid; kill -$s $run; wait $run; say rc=$?; fate $(cat pid); done",
    ),
    script(
        "SIGALRM, SIGVTALRM and SIGPROF end it",
        "for s in ALRM VTALRM PROF; do rm -f pid; start $RUN sh -c \"$SLEEPER\"; ready pid; kill -$s $run; wait $run; say rc=$?; fate $(cat pid); done",
    ),
    script(
        "SIGXCPU, SIGXFSZ, SIGIO, SIGPWR end it",
        "ulimit -c 0; for s in XCPU XFSZ IO PWR; do rm -f pid; start $RUN sh -c \"$SLEEPER\"; ready pid; kill -$s $run; wait $run; say rc=$?; fate $(cat pid); done",
    ),
    script(
        "SIGABRT and SIGSEGV end it",
        "ulimit -c 0; for s in ABRT SEGV; do rm -f pid; start $RUN sh -c \"$SLEEPER\"; ready pid; kill -$s $run; wait $run; say rc=$?; fate $(cat pid); done",
    ),
    script(
        "SIGKILL ends it",
        "start $RUN sh -c \"$SLEEPER\"; ready pid; kill -KILL $run; wait $run; say rc=$?; fate $(cat pid)",
    ),
    script(
        "SIGWINCH, SIGURG and SIGCONT do not end it",
        "start $RUN sh -c 'echo $$ >pid; . ./lib.sh; ready go; exit 3'; ready pid; kill -WINCH $run; kill -URG $run; kill -CONT $run; sleep 0.1; echo 1 >go; wait $run; say rc=$?",
    ),
    script(
        "a signal that the command handles",
        "for s in HUP QUIT USR1 USR2 TERM WINCH; do rm -f pid; start $RUN bash -c \". ./lib.sh; trap 'say got $s; exit 9' $s; echo \\$\\$ >pid; while :; do sleep 0.05; done\"; ready pid; kill -$s $run; wait $run; say rc=$?; done",
    ),
    script(
        "signals ignored by the launcher stay ignored",
        "trap '' HUP USR1 TERM; $RUN sh -c 'echo $$ >pid; . ./lib.sh; ready go; exit 3' & run=$!; ready pid; for s in HUP USR1 TERM INT; do kill -$s $run; done; sleep 0.1; echo 1 >go; wait $run; say rc=$?",
    ),
    script(
        "the command inherits which signals are ignored",
        "trap '' HUP USR2; $RUN grep SigIgn /proc/self/status >a; say $(cat a)",
    ),
    script(
        "the command inherits which signals are blocked",
        "env --block-signal=USR1,HUP $RUN grep SigBlk /proc/self/status >a; say $(cat a)",
    ),
    script(
        "nohup",
        "nohup $RUN sh -c 'echo $$ >pid; . ./lib.sh; ready go; exit 3' >/dev/null 2>&1 & run=$!; ready pid; kill -HUP $run; sleep 0.1; echo 1 >go; wait $run; say rc=$?",
    ),
    script(
        "exit codes",
        "for c in 0 1 7 75 126 255; do $RUN sh -c \"exit $c\"; say rc=$?; done; $RUN ./not-there; say rc=$?; : >plain; $RUN ./plain; say rc=$?",
    ),
    script(
        "the command dies of a signal",
        "ulimit -c 0; for s in TERM KILL INT PIPE; do $RUN sh -c \"kill -$s \\$\\$\"; say rc=$?; done",
    ),
    script(
        "SIGINT of the command alone ends the script",
        "bash -c '. ./lib.sh; trap - INT; $RUN sh -c \"kill -INT \\$\\$\"; say next'; say rc=$?",
    ),
    script(
        "the reader of stdout goes away",
        "set -o pipefail; $RUN sh -c 'while :; do echo y; done' | head -n 1 >/dev/null; say rc=$?",
    ),
    script(
        "stdout that the command closes is closed for its reader",
        "mkfifo f; $RUN sh -c '. ./lib.sh; exec >&-; ready read' >f & cat f; echo 1 >read; wait; say rc=$?",
    ),
    script(
        "stdin reaches the command alone",
        "printf 'one\\ntwo\\n' | (  $RUN sh -c 'read a; echo @@$a'; read b; say $b )",
    ),
    script(
        "stdout and stderr that are closed or full",
        "$RUN true >&-; say rc=$?; $RUN true 2>&-; say rc=$?; $RUN true 2>/dev/full; say rc=$?; $RUN sh -c 'exit 4' >/dev/full 2>&1; say rc=$?",
    ),
    script(
        "open files, folder, umask and limits are handed down",
        "umask 027; ulimit -n 321; echo data >data; exec 9<data; $RUN sh -c '. ./lib.sh; read a <&9; say $a $(umask) $(ulimit -n); [ \"$PWD\" = \"$OLD\" ] || say pwd; ls /proc/self/fd | wc -l >fds'; sh -c 'ls /proc/self/fd | wc -l >fds2'; cmp fds fds2 && say no other files",
    ),
    script(
        "orphans are no zombies",
        "start $RUN sh -c 'i=0; while [ $i -lt 20 ]; do (true & ); i=$((i+1)); done; echo $$ >pid; . ./lib.sh; ready go'; ready pid; t=0; while n=0; for p in $(ps -e -o pid=,ppid=,stat= | awk '$3 ~ /^Z/ {print $2}'); do [ \"$(readlink /proc/$p/cwd)\" = \"$PWD\" ] && n=$((n+1)); done; [ $n -gt 0 ] && [ $t -lt 50 ]; do t=$((t+1)); sleep 0.1; done; say zombies=$n; echo 1 >go; wait $run; say rc=$?",
    ),
];
