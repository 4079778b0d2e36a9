def main():
    print("hello-python says hello")
