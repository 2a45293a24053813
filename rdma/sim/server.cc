#include "rdma/sim/server.h"

#include <utility>
#include <vector>

#include "rdma/sim/channel.h"

namespace perigee::rdma::sim {

namespace {

class SimServerCall final : public ServerCall {
 public:
  SimServerCall(std::shared_ptr<Link> link, const Request& request, Piece bulk)
      : link_(std::move(link)),
        method_(request.method),
        id_(request.id),
        traffic_(request.traffic),
        header_(request.header),
        deadline_(request.deadline),
        bulk_(std::move(bulk)) {}
  ~SimServerCall() override {
    if (!answered_) Fail(Status(Code::kInternal, "the handler dropped the call"));
  }

  wire::Method method() const override { return method_; }
  const Peer& peer() const override { return link_->peer(); }
  std::string_view header() const override { return header_; }
  Piece& bulk() override { return bulk_; }
  Nanos deadline() const override { return deadline_; }
  TrafficClass traffic() const override { return traffic_; }

  void Reply(Payload payload) override {
    auto response = std::make_shared<Response>();
    response->id = id_;
    if (payload.header.size() > kHeaderBytesMax || payload.fds.size() > kFdsMax) {
      response->code = Code::kInternal;
      response->text = "the handler's reply exceeds what a frame carries";
    } else {
      response->text = std::move(payload.header);
      if (payload.bulk)
        response->bulk = std::make_shared<const std::string>(AsView(payload.bulk.span()));
    }
    Send(std::move(response));
  }

  void Fail(const Status& status) override {
    auto response = std::make_shared<Response>();
    response->id = id_;
    response->code = status.code();
    response->text = status.message();
    Send(std::move(response));
  }

 private:
  void Send(std::shared_ptr<const Response> response) {
    PERIGEE_CHECK(!answered_);
    answered_ = true;
    bulk_.Release();
    link_->Answer(traffic_, std::move(response));
  }

  const std::shared_ptr<Link> link_;
  const wire::Method method_;
  const uint64_t id_;
  const TrafficClass traffic_;
  const std::string header_;
  const Nanos deadline_;
  Piece bulk_;
  bool answered_ = false;
};

}  // namespace

Link::Link(std::shared_ptr<Server> server, std::weak_ptr<ClientCore> client,
           std::string client_host, Peer peer)
    : server_(std::move(server)),
      client_(std::move(client)),
      client_host_(std::move(client_host)),
      peer_(std::move(peer)),
      bytes_(server_->host().BytesWith(peer_.role, peer_.node_id)) {}

const std::string& Link::server_host() const { return server_->host().name; }

bool Link::Alive() const {
  std::lock_guard lock(mu_);
  return alive_;
}

bool Link::Enter() {
  std::lock_guard lock(mu_);
  if (alive_) ++running_;
  return alive_;
}

void Link::Leave() {
  bool tell = false;
  {
    std::lock_guard lock(mu_);
    --running_;
    tell = !alive_ && running_ == 0 && !std::exchange(told_, true);
  }
  if (!tell) return;
  server_->handler().OnDisconnect(peer_);
  server_->Gone(this);
}

void Link::Break(const std::string& why) {
  {
    std::lock_guard lock(mu_);
    if (!alive_) return;
    ++running_;  // Leave tells, unless a call runs
    alive_ = false;
  }
  auto self = shared_from_this();
  if (auto client = client_.lock()) client->Broken(self, why);
  // As a task of its own: whoever breaks a connection is not the provider's thread.
  if (!server_->host().fabric->After(0, [self] { self->Leave(); })) Leave();
}

void Link::Arrive(std::shared_ptr<const Request> request) {
  const Host& host = server_->host();
  if (host.calls_in != nullptr) host.calls_in->Add();
  bytes_->CountReceived(request->traffic, request->Bytes());
  if (!request->bulk) return Serve(*request, Piece());
  if (host.bytes_in != nullptr) host.bytes_in->Add(static_cast<double>(request->bulk->size()));
  host.fabric->FillPiece(host.options.pool, request->bulk, request->deadline,
                         [self = shared_from_this(), request](Piece piece) {
                           // Nobody waits for a call whose buffer came too late.
                           if (piece) self->Serve(*request, std::move(piece));
                         });
}

void Link::Serve(const Request& request, Piece bulk) {
  if (!Enter()) return;
  server_->handler().OnCall(
      std::make_unique<SimServerCall>(shared_from_this(), request, std::move(bulk)));
  Leave();
}

void Link::Answer(TrafficClass traffic, std::shared_ptr<const Response> response) {
  const Host& host = server_->host();
  bytes_->CountSent(traffic, response->Bytes());
  Fate fate = host.fabric->Draw(host.name, client_host_);
  if (host.bytes_out != nullptr && response->bulk) {
    host.bytes_out->Add(static_cast<double>(response->bulk->size()));
  }
  if (fate.reset) return Break("the simulated network reset the connection");
  if (fate.lost) return;
  auto arrive = [self = shared_from_this(), response] {
    if (auto client = self->client_.lock()) client->Answered(self, response);
  };
  // A stopped scheduler delivers nothing any more.
  (void)host.fabric->After(fate.delay, arrive);
  if (fate.duplicated) (void)host.fabric->After(fate.second_delay, arrive);
}

Result<std::shared_ptr<Link>> Server::Accept(const Host& client, std::weak_ptr<ClientCore> channel,
                                             HelloPeer* seen) {
  HelloClient theirs(client.options);
  HelloServer ours(host_->options);
  PERIGEE_ASSIGN(std::string challenge, ours.Challenge(theirs.Start()));
  PERIGEE_ASSIGN(std::string answer, theirs.Answer(challenge));
  auto verified = ours.Verify(answer);
  PERIGEE_ASSIGN(*seen, theirs.Finish(verified.ok() ? ours.Welcome()
                                                    : HelloServer::Refusal(verified.status())));
  Peer peer;
  peer.role = verified->role;
  peer.node_id = verified->node_id;
  peer.uid = client.identity.uid;
  peer.gid = client.identity.gid;
  peer.pid = client.identity.pid;
  peer.provider = "sim";
  peer.connection = NextConnectionId();
  auto link =
      std::make_shared<Link>(shared_from_this(), std::move(channel), client.name, std::move(peer));
  {
    std::lock_guard lock(mu_);
    if (stopped_) return Status(Code::kUnavailable, "nobody listens on sim:" + name_);
    if (host_->connections.load() >= host_->options.connections_max) {
      return Status(Code::kUnavailable, "too many connections at sim:" + name_);
    }
    host_->connections.fetch_add(1);
    links_.emplace(link->peer().connection, link);
  }
  host_->fabric->AddLink(link);
  return link;
}

void Server::Gone(Link* link) {
  host_->connections.fetch_sub(1);
  std::shared_ptr<Link> dropped = link->shared_from_this();
  std::lock_guard lock(mu_);
  links_.erase(dropped->peer().connection);
  if (links_.empty()) empty_.NotifyAll();
}

void Server::Stop() {
  host_->fabric->RemoveServer(name_, this);
  std::vector<std::shared_ptr<Link>> links;
  {
    std::lock_guard lock(mu_);
    stopped_ = true;
    for (auto& [connection, link] : links_) links.push_back(link);
  }
  for (auto& link : links) link->Break("the server stopped");
  std::unique_lock lock(mu_);
  empty_.Wait(lock, [&] { return links_.empty(); });
}

}  // namespace perigee::rdma::sim
