//! What the reporting commands share: the graph of derivations, what trees hold, what changed between two of
//! either. It builds nothing and prints nothing.

pub mod explain;
pub mod files;
pub mod graph;
pub mod last;
pub mod lines;
