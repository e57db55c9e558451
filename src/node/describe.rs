//! Errors as one line for people.

use std::error::Error;

/// The error and its causes, without those that the text before already tells.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (String::new(), Some(error));
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text += if text.is_empty() { "" } else { ": " };
            text += &message;
        }
        cause = error.source();
    }
    text
}
