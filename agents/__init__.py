"""Ready-made agents. Nothing imports this package but examples and the command line's catalogue."""

PART_OF = "agentplatform"

# Name in the catalogue -> "module:Class", as text: to list the agents, or to make one of them, nobody needs the
# libraries of the others.
CATALOGUE = {
    "counter": "agents.counter:Counter",
    "driver-profiling": "agents.driver_profiling.agent:DriverProfiling",
    "face-recognition": "agents.face_recognition.agent:FaceRecognition",
    "image-recognition": "agents.image_recognition.agent:ImageRecognition",
    "traveller": "agents.traveller:Traveller",
    "user": "agents.user:FaceUser",
    "video-decoding": "agents.video_decoding.agent:VideoDecoding",
}
