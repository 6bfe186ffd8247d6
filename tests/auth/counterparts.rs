//! Receivers that others wrote. Where one is not installed, its test says so and passes.
