#include "tests/sim/model.h"

#include "base/bytes.h"
#include "base/checksum.h"

namespace perigee::sim {

std::string Words(const Content& content) {
  if (!content) return "absent";
  return std::to_string(content->size()) + " bytes " +
         HexEncode64(Crc32c(AsBytes(*content))).substr(8);
}

void Key::Add(std::vector<Content>* to, const Content& content) {
  if (std::find(to->begin(), to->end(), content) == to->end()) to->push_back(content);
}

void Key::Begin(const std::string& what, const std::vector<Content>& outcomes) {
  history_.push_back(what);
  in_object_tier_ = false;
  for (const Content& outcome : outcomes) {
    Add(&states_, outcome);
    Add(&since_durable_, outcome);
    Add(&since_look_, outcome);
  }
}

void Key::Acknowledged(const Content& content) {
  history_.push_back("acknowledged " + Words(content));
  states_ = {content};
  Add(&since_durable_, content);
  Add(&since_look_, content);
}

void Key::Durable(At at) {
  history_.push_back("durable");
  in_object_tier_ = at == At::kObjectTier;
  since_durable_ = states_;
}

void Key::ReplacedBy(const Key& moved) {
  for (const Content& content : moved.since_durable_)
    if (content && !(in_object_tier_ && content->empty())) Add(&since_durable_, content);
}

void Key::Refused(const Content& before) {
  history_.push_back("refused");
  states_ = {before};
}

void Key::PowerCut() {
  if (since_durable_ == states_) return;
  history_.push_back("power cut");
  for (const Content& content : since_durable_) Add(&states_, content);
}

void Key::Settled(const Content& seen) {
  history_.push_back("settled as " + Words(seen));
  states_ = since_look_ = {seen};
  Add(&since_durable_, seen);
}

bool Key::Allows(const Content& seen) const {
  return std::find(states_.begin(), states_.end(), seen) != states_.end();
}

bool Key::MayShow(const Content& seen) const {
  return std::find(since_look_.begin(), since_look_.end(), seen) != since_look_.end();
}

std::string Key::Expected() const {
  std::string text;
  for (const Content& state : states_) text += (text.empty() ? "" : " or ") + Words(state);
  text += "; calls:";
  for (size_t i = history_.size() > 14 ? history_.size() - 14 : 0; i < history_.size(); i++)
    text += " " + history_[i] + ",";
  return text;
}

}  // namespace perigee::sim
