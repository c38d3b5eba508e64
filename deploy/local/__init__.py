"""The distributed shape as child processes on one machine, without Docker: for `make cluster`, tests and benchmarks.

cluster       Cluster: all processes together
services      Service: a gateway, worker or query service; StandIn: the stand-in for a Qdrant server
kafka         KafkaBroker, brokers
redis_server  RedisServer
nginx         Nginx: the proxy in front of gateways and query services
process       Child: the base class of all of them

with Cluster(Path("data"), gateways=2, workers=2) as cluster:
    print(cluster.url)
    cluster.workers[0].kill()
    cluster.kafka.pause()
"""
