//! Replica processes as a controller sees them. The interpreter is a shell script that does what the test needs.
