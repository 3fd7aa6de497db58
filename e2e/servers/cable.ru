# Rails' Action Cable with puma and the async adapter, without Rails. POST /control does what it is told.
require "action_cable"
require "active_support/all"
require "json"
require "logger"

class Connection < ActionCable::Connection::Base
  identified_by :user

  def connect
    $connects += 1
    token = request.params["token"]
    reject_unauthorized_connection if token == "bad"
    self.user = token || "somebody"
  end
end

class ChatChannel < ActionCable::Channel::Base
  def subscribed
    return reject if params[:room] == "secret"
    stream_from "chat:#{params[:room]}"
    transmit({ "greets" => params[:room] }) if params[:greet]
  end

  def speak(data)
    ActionCable.server.broadcast("chat:#{params[:room]}", { "said" => data["text"] })
  end
end

if ENV["BEAT"] # seconds between two pings
  ActionCable::Server::Connections.send(:remove_const, :BEAT_INTERVAL)
  ActionCable::Server::Connections::BEAT_INTERVAL = ENV["BEAT"].to_f
end

$connects = 0
config = ActionCable::Server::Base.config
config.logger = Logger.new(IO::NULL)
config.cable = { "adapter" => "async" }.with_indifferent_access
config.connection_class = -> { Connection }
config.allow_same_origin_as_host = true
config.allowed_request_origins = []

control = lambda do |env|
  command = JSON.parse(env["rack.input"].read)
  result =
    case command["do"]
    when "say" then ActionCable.server.broadcast("chat:#{command["topic"]}", command["message"])
    when "count" # those whose streams have begun: a subscription is listed before what is said reaches it
      wanted = %("room":"#{command["topic"]}")
      ActionCable.server.connections.sum do |c|
        c.subscriptions.send(:subscriptions).values.count { |channel| channel.identifier.include?(wanted) && channel.send(:subscription_confirmation_sent?) }
      end
    when "connects" then $connects
    when "restart" then ActionCable.server.connections.dup.each { |c| c.close(reason: "server_restart") }.size
    when "refuse" then ActionCable.server.connections.dup.each { |c| c.close(reason: "remote", reconnect: false) }.size
    end
  [200, { "Content-Type" => "application/json" }, [JSON.generate(result)]]
end

run(lambda do |env|
  case env["PATH_INFO"]
  when "/cable" then ActionCable.server.call(env)
  when "/control" then control.call(env)
  else [404, { "Content-Type" => "text/plain" }, ["no such thing"]]
  end
end)
