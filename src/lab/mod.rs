//! Network namespaces, veth pairs and a packet sender: for the demo, the tests and the benchmark.
