//! Everything at once: a fleet that connects in one moment, a crowd of publishers while connections come and go, and
//! connections that are cut at every stage.

mod churn;
mod crowd;
mod fleet;
