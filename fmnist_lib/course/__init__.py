"""What a class needs: exercises with instant checks, student copies, the kit."""
