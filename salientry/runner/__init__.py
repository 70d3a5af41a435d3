"""Steps, the graph they form, and the engines that compute it: here, in worker processes, on any executor."""
