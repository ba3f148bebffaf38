//! Load: a fleet that connects at one moment, many publishers while connections come and go, and connections that are
//! cut at every stage.

mod churn;
mod crowd;
mod fleet;
