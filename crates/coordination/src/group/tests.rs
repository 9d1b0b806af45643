//! How a group behaves, input by input.
