//! Two runs are equal if their traces are: what happened, in which order and when.

use std::io;
use std::sync::{Arc, Mutex};

use evermind_sim::trace;
use evermind_sim::trace::Trace;

fn traced(lines: &[(u64, &str)]) -> (u64, u128) {
    let trace = Trace::new(None);
    for (at_us, what) in lines {
        trace.at(*at_us);
        trace!(trace, "{what}");
    }
    trace.digest()
}

#[test]
fn equal_traces_have_equal_digests_and_others_do_not() {
    let usual = traced(&[(10, "a"), (20, "b")]);
    assert_eq!(usual.0, 2);
    assert_eq!(traced(&[(10, "a"), (20, "b")]), usual);
    let others = [
        &[(10, "a"), (20, "c")][..],
        &[(10, "a"), (21, "b")],
        &[(10, "b"), (20, "a")],
        &[(10, "a")],
        &[],
    ];
    for other in others {
        assert_ne!(traced(other).1, usual.1, "{other:?}");
    }
}

/// What was written, for who wrote it.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_trace_that_somebody_reads_is_the_same_trace() {
    let page = Page::default();
    let trace = Trace::new(Some(Box::new(page.clone())));
    trace.at(1_500);
    trace!(trace.clone(), "node {} is killed", 3);
    assert_eq!(trace.digest(), traced(&[(1_500, "node 3 is killed")]));
    let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text, "      1500 us  node 3 is killed\n");
}
