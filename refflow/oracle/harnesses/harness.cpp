// Softplus and Affine in float and double, for `g++ -std=c++17 harness.cpp -o harness; refflow check --command ./harness`
#include <cmath>
#include <iostream>
#include <map>
#include <sstream>
#include <vector>
using Text = std::string;
struct Json { Text text; std::vector<Json> list; std::map<Text, Json> object; };
Json parse(std::istream& in) { // what is neither a list nor an object is text
  Json found;
  char c = char((in >> std::ws).get());
  if (c == '"')
    while (in.get(c) && c != '"') found.text += c == '\\' ? char(in.get()) : c;
  else if (c == '[' || c == '{') {
    for (char end = c == '[' ? ']' : '}'; in && (in >> std::ws).peek() != end; in >> std::ws, in.peek() == ',' && in.get())
      if (Text key; end == '}') key = parse(in).text, in >> c, found.object[key] = parse(in);
      else found.list.push_back(parse(in));
    in.get();
  } else
    for (found.text = c; std::isalnum(in.peek()) || in.peek() == '-';) found.text += char(in.get());
  return in ? found : throw Text("the line is not JSON");
}
template <class T> T value(const Text& name, std::map<Text, T> p, T v) {
  const T small = std::log1p(std::exp(-std::abs(v)));
  if (name == "Softplus forward") return std::max(v, T(0)) + small;
  if (name == "Softplus log_det") return -std::max(-v, T(0)) - small;
  if (name == "Softplus inverse") return v + std::log(-std::expm1(-v));
  if (name == "Affine forward") return p["scale"] * v + p["shift"];
  if (name == "Affine log_det") return std::log(std::abs(p["scale"]));
  if (name == "Affine inverse") return (v - p["shift"]) / p["scale"];
  throw name + " is not here";
}
template <class T> void run(std::ostream& out, Json& q) { // both maps are of one number: the answer has the event's shape
  std::map<Text, T> p;
  for (auto& [key, a] : q.object["params"].object) p[key] = T(std::strtod(a.object["values"].list.at(0).text.c_str(), 0));
  std::map<Text, Json>& event = q.object["event"].object;
  Text comma, name = q.object["page"].text + " " + q.object["quantity"].text;
  out << R"({"answer":"run","id":)" << q.object["id"].text << std::hexfloat << R"(,"value":{"values":[)";
  for (Json& v : event["values"].list) out << comma << '"' << value(name, p, T(std::strtod(v.text.c_str(), 0))) << '"', comma = ",";
  out << R"(],"shape":[)", comma = "";
  for (Json& n : event["shape"].list) out << comma << n.text, comma = ",";
  out << "]}}";
}
int main() {
  const Text known = " request schema id page dtype quantity params event ";
  const Text has = R"("dtypes":["float32","float64"],"quantities":["forward","log_det","inverse"]})";
  for (Text line; std::getline(std::cin, line); std::cout << std::endl) try {
    std::istringstream in(line + " ");
    std::ostringstream out;
    Json q = parse(in);
    for (auto& [key, _] : q.object) if (known.find(" " + key + " ") == Text::npos) throw "unknown field " + key;
    if (q.object["request"].text == "run") q.object["dtype"].text == "float32" ? run<float>(out, q) : run<double>(out, q);
    else if (q.object["request"].text == "stop") out << R"({"answer":"stop"})";
    else if (q.object["schema"].text != "refflow/protocol/1") throw Text("unknown schema");
    else out << R"({"answer":"start","schema":"refflow/protocol/1","name":"C++","pages":[{"page":"Softplus",)" << has
             << R"(,{"page":"Affine",)" << has << "]}";
    std::cout << out.str();
  } catch (const Text& reason) { std::cout << R"({"answer":"refused","reason":")" << reason << R"("})"; }
}
