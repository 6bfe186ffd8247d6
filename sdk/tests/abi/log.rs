//! The log on its way to the runtime.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{consume_text, log, logged, new_id, original};

#[test]
fn fields_are_part_of_the_message() {
    let id = new_id();
    assert_eq!(original().open(id, "{}", log), 0);
    assert_eq!(consume_text(original(), id, "x"), 0);
    assert_eq!(original().close(id), 0);
    let line = format!("Took a batch id={id} stream=orders topic=created batch=1 messages=1");
    assert_eq!(logged(2, &[&line]), [line]);
    assert_eq!(logged(2, &[&format!("Opened the controlled sink with ID: {id}")]).len(), 1);
}

static OTHER: AtomicUsize = AtomicUsize::new(0);

extern "C" fn other_log(
    level: u8,
    target: *const u8,
    target_len: usize,
    message: *const u8,
    message_len: usize,
) {
    OTHER.fetch_add(1, Ordering::SeqCst);
    // The other tests run at the same time and look for their lines.
    log(level, target, target_len, message, message_len);
}

#[test]
fn a_later_callback_is_honoured() {
    let id = new_id();
    assert_eq!(original().open(id, "{}", log), 0);
    assert_eq!(original().close(id), 0);
    // Another test may pass its callback in between, so this one tries again.
    let heard = (0..1000).any(|_| {
        assert_eq!(original().open(id, "{}", other_log), 0);
        assert_eq!(original().close(id), 0);
        OTHER.load(Ordering::SeqCst) > 0
    });
    assert!(heard);
}
