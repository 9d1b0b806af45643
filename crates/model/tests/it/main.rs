//! The model from outside: tables of texts and laws of the algebra.

mod algebra;
mod kinds;
mod laws;
mod operations;
mod texts;
mod validation;
