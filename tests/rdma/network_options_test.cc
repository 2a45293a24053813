#include "rdma/network_options.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "rdma/network/provider_choice.h"
#include "tests/rdma/local_world.h"

using namespace perigee;
using namespace perigee::rdma;

namespace {

NetworkOptions Listening(const std::string& listen, const std::string& transport = "auto") {
  NetworkOptions o;
  o.listen = listen;
  o.transport = transport;
  return o;
}

NetworkOptions Certified(NetworkOptions o) {
  o.ca_file = o.cert_file = o.key_file = "/x";
  return o;
}

std::string Refusal(NetworkOptions o, bool has_secret = true) {
  Status st = CheckNetworkOptions(&o, 9002, has_secret);
  CHECK(st.Is(Code::kInvalidArgument));
  CHECK(st.message().find('\n') == std::string::npos);
  return st.message();
}

}  // namespace

TEST_CASE("network options: a host alone gets the daemon's port") {
  for (auto [given, completed] : {std::pair{"10.0.0.1", "10.0.0.1:9002"},
                                  {"10.0.0.1:7", "10.0.0.1:7"},
                                  {"[fd00::1]", "[fd00::1]:9002"},
                                  {"node1.example.org", "node1.example.org:9002"},
                                  {"10.0.0.1,10.1.0.1:7", "10.0.0.1:9002,10.1.0.1:7"},
                                  {"127.0.0.1:0,127.0.0.1:0", "127.0.0.1:0,127.0.0.1:0"}}) {
    NetworkOptions o = Listening(given);
    REQUIRE(CheckNetworkOptions(&o, 9002, true).ok());
    CHECK(o.listen == completed);
  }
}

TEST_CASE("network options: nothing given is no network, and well") {
  NetworkOptions o;
  CHECK(CheckNetworkOptions(&o, 9002, false).ok());
  CHECK(o.listen.empty());
}

TEST_CASE("network options: what does not fit together is refused by its name") {
  CHECK(Refusal(Listening("10.0.0.1:9002"), false).find("--secret-file") != std::string::npos);
  CHECK(Refusal(Listening("", "ofi")).find("--listen") != std::string::npos);
  CHECK(Refusal(Listening("10.0.0.1", "tcp")).find("--transport tcp") != std::string::npos);
  CHECK(Refusal(Listening("10.0.0.1", "tls")).find("--ca-file") != std::string::npos);
  CHECK(Refusal(Listening("10.0.0.1", "local")).find("local") != std::string::npos);
  CHECK(Refusal(Certified(Listening("", "tls"))).find("--listen") != std::string::npos);
  CHECK(Refusal(Listening("0.0.0.0")).find("--advertise") != std::string::npos);
  CHECK(Refusal(Listening("a b")).find("--listen") != std::string::npos);
  CHECK(Refusal(Listening("10.0.0.1,")).find("--listen") != std::string::npos);
  CHECK(Refusal(Listening("10.0.0.1,10.0.0.1:9002")).find("given twice") != std::string::npos);
  CHECK(Refusal(Listening("10.0.0.1,0.0.0.0")).find("--advertise") != std::string::npos);
  NetworkOptions half = Listening("10.0.0.1");
  half.cert_file = "/x";
  CHECK(Refusal(half).find("--key-file") != std::string::npos);
  NetworkOptions nowhere;
  nowhere.advertise = "10.0.0.1";
  CHECK(Refusal(nowhere).find("--advertise") != std::string::npos);
}

TEST_CASE("choice: certificates mean tls, on whatever interface") {
  auto choice =
      ChooseProvider(Certified(Listening("10.0.0.1:9002")), {"eth0", false, true, "mlx5_0:1"});
  REQUIRE(choice.ok());
  CHECK(choice->provider == "tls");
  CHECK(choice->why == "certificates are given");
}

TEST_CASE("choice: ucx needs RDMA, a listed interface or a trusted fabric") {
  NetworkOptions listed = Listening("10.0.0.1:9002"), trusted = listed;
  listed.fabric_interfaces = {"eth1", "eth0"};
  trusted.fabric_trusted = true;
  for (const char* transport : {"auto", "ucx"}) {
    CAPTURE(transport);
    listed.transport = trusted.transport = transport;
    CHECK(ChooseProvider(listed, {"eth0", false, true, ""})->why == "eth0 is a --fabric-interface");
    CHECK(ChooseProvider(trusted, {"eth0", false, true, ""})->why == "the fabric is trusted");
    auto rdma =
        ChooseProvider(Listening("10.0.0.1:9002", transport), {"ib0", false, true, "mlx5_0:1"});
    CHECK(rdma->provider == "ucx");
    CHECK(rdma->why == "ib0 has RDMA, mlx5_0:1");
    auto plain = ChooseProvider(Listening("10.0.0.1:9002", transport), {"eth0", false, true, ""});
    CHECK(plain.code() == Code::kInvalidArgument);
    CHECK(plain.status().message().find("--fabric-trusted") != std::string::npos);
    CHECK(ChooseProvider(listed, {"eth2", false, true, ""}).code() == Code::kInvalidArgument);
  }
  // Every user of this machine reaches its loopback interface.
  CHECK(ChooseProvider(Listening("127.0.0.1:1"), {"lo", true, true, ""}).code() ==
        Code::kInvalidArgument);
  CHECK(ChooseProvider(Listening("127.0.0.1:1", "ucx"), {"lo", true, true, ""})->provider == "ucx");
}

TEST_CASE("choice: ofi is used when it is asked for, where ucx would be") {
  NetworkOptions ofi = Listening("10.0.0.1:9002", "ofi");
  auto rdma = ChooseProvider(ofi, {"ib0", false, true, "mlx5_0:1"});
  CHECK(rdma->provider == "ofi");
  CHECK(rdma->why == "ib0 has RDMA, mlx5_0:1");
  CHECK(ChooseProvider(Certified(ofi), {"eth0", false, true, ""}).code() == Code::kInvalidArgument);
  ofi.fabric_trusted = true;
  CHECK(ChooseProvider(ofi, {"eth0", false, true, ""})->provider == "ofi");
}

TEST_CASE("fabric: an interface's RDMA device is what the kernel says it is") {
  TempDir sys;
  auto make = [&](const std::string& path) {
    std::filesystem::create_directories(sys.path() + "/class/net/" + path);
  };
  make("eth0/device");
  make("ib1/device/infiniband/mlx4_0");
  std::ofstream(sys.path() + "/class/net/ib1/dev_port", std::ios::out) << "1\n";
  make("roce/device/infiniband/mlx5_1");
  CHECK(RdmaDeviceOf("eth0", sys.path()).empty());
  CHECK(RdmaDeviceOf("lo", sys.path()).empty());
  CHECK(RdmaDeviceOf("ib1", sys.path()) == "mlx4_0:2");
  CHECK(RdmaDeviceOf("roce", sys.path()) == "mlx5_1:1");
}
