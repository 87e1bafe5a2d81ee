//! Maps and diagrams as PNG.
