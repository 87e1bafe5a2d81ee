//! advect tests
